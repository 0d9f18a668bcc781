"""The loop that generates: what it feeds, how tokens are chosen, when it stops; a counter stands for a decoder."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from dlbridge.decoding import Settings
from dlbridge.errors import DlbridgeError, SignatureError
from dlbridge.runtime.generation import Generator, Part
from dlbridge.runtime.sampling import Sampling
from dlbridge.runtime.signature import Port

_CACHE = "past_key_values.0.key", "past_key_values.0.value"
_INT, _FLOAT = np.dtype("int64"), np.dtype("float32")
PORTS = (
    Port("input_ids", _INT, ("batch", "seq")),
    Port("attention_mask", _INT, ("batch", "past + seq")),
    *(Port(name, _FLOAT, ("batch", 1, "past", 1)) for name in _CACHE),
)
WORDS = 12


class Counting:
    """Its next token is the sum of all tokens that count, modulo ``WORDS``; the cache holds them."""

    def __init__(self):
        self.fed = []

    def __call__(self, feed):
        ids, mask = feed["input_ids"], feed["attention_mask"]
        self.fed.append((ids.tolist(), mask.tolist()))
        new = ids[:, None, :, None].astype(np.float32)
        cache = np.concatenate([feed[_CACHE[0]], new], 2)
        assert cache.shape[2] == mask.shape[1]
        sums = (cache[:, 0, :, 0] * mask).sum(1).astype(int) % WORDS
        logits = np.zeros((len(ids), ids.shape[1], WORDS), np.float32)
        logits[np.arange(len(ids)), -1, sums] = 1
        return {"logits": logits, **{name.replace("past_key_values", "present"): cache for name in _CACHE}}


def counting(settings=None, ports=PORTS):
    model = Counting()
    return model, Generator(Part(model, ports), None, settings or Settings())


def test_a_prompt_and_steps():
    model, generator = counting()
    assert generator.generate([[1, 2]], max_tokens=4) == [[3, 6, 0, 0]]
    assert model.fed[:2] == [([[1, 2]], [[1, 1]]), ([[3]], [[1, 1, 1]])]


def test_short_prompts_are_filled_up_at_their_left_and_each_gives_what_it_gives_alone():
    prompts = [[1, 2, 3, 4], [5], [7, 1]]
    model, generator = counting(Settings(pad=9))
    together = generator.generate(prompts, max_tokens=5)
    assert model.fed[0] == ([[1, 2, 3, 4], [9, 9, 9, 5], [9, 9, 7, 1]], [[1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 1, 1]])
    assert together == [counting()[1].generate([prompt], max_tokens=5)[0] for prompt in prompts]


def test_without_a_mask_the_rest_of_long_prompts_comes_step_by_step():
    class Unmasked(Counting):
        def __call__(self, feed):
            length = feed[_CACHE[0]].shape[2] + feed["input_ids"].shape[1]
            return super().__call__({**feed, "attention_mask": np.ones((len(feed["input_ids"]), length), np.int64)})

    prompts = [[1, 2, 3, 4], [5], [7, 1]]
    model = Unmasked()
    generator = Generator(Part(model, (PORTS[0], *PORTS[2:])), None, Settings(stop=(11,), suppress_first=(10,)))
    found = list(generator.stream(prompts, max_tokens=3))
    assert [ids for ids, _ in model.fed][:3] == [[[1], [5], [7]], [[2], [5], [1]], [[3], [10], [8]]]
    assert found[0] == [None, 5, None] and found[1] == [None, 10, 8]
    together = [[row[i] for row in found if row[i] is not None] for i in range(3)]
    alone = [counting(Settings(stop=(11,), suppress_first=(10,)))[1].generate([p], max_tokens=3)[0] for p in prompts]
    assert together == alone == generator.generate(prompts, max_tokens=3)


def test_a_row_that_has_stopped_waits_for_the_others():
    settings = Settings(stop=(3,), pad=9)
    model, generator = counting(settings)
    steps = list(generator.stream([[1, 2], [4, 4]], max_tokens=3))
    assert steps == [[3, 8], [None, 4], [None, 8]]
    assert model.fed[1][0] == [[3], [8]] and model.fed[2][0] == [[9], [4]]
    assert counting(settings)[1].generate([[1, 2]], max_tokens=50) == [[3]]
    assert counting(settings)[1].generate([[1, 2]], max_tokens=2, stop=[]) == [[3, 6]]


def test_suppressed_tokens_are_not_chosen():
    assert counting(Settings(suppress=(3,)))[1].generate([[1, 2]], max_tokens=1) == [[0]]
    assert counting(Settings(suppress_first=(3,)))[1].generate([[1, 2]], max_tokens=2) == [[0, 3]]


def test_forced_tokens_are_first_and_last():
    generator = counting(Settings(first=7, last=5))[1]
    assert generator.generate([[1, 2]], max_tokens=4) == [[7, 10, 8, 5]]
    assert counting(Settings(last=5, stop=(3,)))[1].generate([[1, 2], [4, 4]], max_tokens=3) == [[3], [8, 4, 5]]


def test_a_seed_draws_the_same_tokens_again():
    def drawn(seed):
        return counting()[1].generate([[1, 2]], max_tokens=30, temperature=2.0, seed=seed)

    assert drawn(1) == drawn(1) != drawn(2)


def test_what_is_drawn_has_the_shares_that_its_options_say():
    scores = np.log(np.array([0.05, 0.4, 0.25, 0.2, 0.1]))

    def shares(**options):
        sampling = Sampling(temperature=1.0, seed=0, **options)
        return np.bincount([sampling.choose(scores) for _ in range(4000)], minlength=5) / 4000

    np.testing.assert_allclose(shares(), [0.05, 0.4, 0.25, 0.2, 0.1], atol=0.03)
    np.testing.assert_allclose(shares(top_k=2), [0, 0.615, 0.385, 0, 0], atol=0.03)
    np.testing.assert_allclose(shares(top_p=0.6), [0, 0.615, 0.385, 0, 0], atol=0.03)
    np.testing.assert_allclose(shares(top_p=0.4), [0, 1, 0, 0, 0], atol=0.0)
    sharp = Sampling(temperature=0.01, seed=0)
    assert {sharp.choose(scores) for _ in range(50)} == {1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "no temperature"),
        ({"temperature": 1.0, "top_k": 0}, "top_k is 0"),
        ({"temperature": 1.0, "top_p": 1.5}, "top_p is 1.5"),
        ({"top_k": 3}, "none are"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(SignatureError, match=message):
        counting()[1].generate([[1]], **options)


def test_what_cannot_be_begun_is_said():
    with pytest.raises(SignatureError, match="a prompt has no tokens"):
        counting()[1].generate([[1], []])
    for wrong in (-3, "a", 1.5):
        with pytest.raises(SignatureError, match="is no token"):
            counting()[1].generate([[1, wrong]])
    with pytest.raises(SignatureError, match="this is no model that generates"):
        Generator(Part(Counting(), PORTS[:2]))
    with pytest.raises(SignatureError, match="it takes 'pixels'"):
        Generator(Part(Counting(), (*PORTS, Port("pixels", _FLOAT, (1,)))))
    with pytest.raises(SignatureError, match="whose encoder is not there"):
        Generator(Part(Counting(), (*PORTS, Port("past_key_values.0.encoder.key", _FLOAT, ("batch", 1, "source", 1)))))


def test_scores_that_are_no_numbers_stop_it():
    with pytest.raises(SignatureError, match="not finite"):
        Sampling().choose(np.array([0.0, np.nan]))


def test_settings_go_through_json_and_what_is_none_is_refused():
    settings = Settings(stop=(1, 2), pad=3, start=4, suppress=(5,))
    assert Settings.loads(settings.dumps()) == settings
    for text in ('{"stop": ["a"]}', '{"stop": 3}', "[]", "{", '{"words": []}', '{"pad": -1}', '{"stop": [true]}'):
        with pytest.raises(DlbridgeError):
            Settings.loads(text)


def test_generating_imports_no_framework():
    code = "import sys, dlbridge.runtime.generators, dlbridge.runtime.text; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "keras", "tensorflow", "transformers", "onnx", "onnx_ir"} & set(eval(done.stdout))


def test_more_than_a_model_is_made_for_is_refused_before_it_begins():
    model, generator = counting(Settings(context=6))
    assert len(generator.generate([[1, 2, 3]], max_tokens=4)[0]) == 4
    begun = len(model.fed)
    for prompt, why in (([1, 2, 3], "max_tokens is 4 at most"), ([1] * 7, "shorten the prompt")):
        with pytest.raises(SignatureError, match="more than the 6 that it is made for") as caught:
            generator.generate([prompt, [1]], max_tokens=5)
        assert why in caught.value.hint
    assert len(model.fed) == begun


def test_numbers_that_no_array_holds_are_refused():
    for token in (2**31, 2**63, 2**64):
        with pytest.raises(SignatureError, match="is no token"):
            counting()[1].generate([[token]])
    with pytest.raises(SignatureError, match="no seed"):
        counting()[1].generate([[1]], temperature=1.0, seed=-1)
