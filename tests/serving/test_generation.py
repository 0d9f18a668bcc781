"""A model that was written to generate, served: the whole text, tokens as they come, and what is no such request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

import dlbridge
from dlbridge.runtime.text import Tokenizer
from dlbridge.serving.generation import Generation
from tests.helpers.generating import features, said_by_transformers, tiny
from tests.helpers.serving import Running, start, write_entry

pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

PROMPT = [5, 6, 7]


def translator():
    return tiny("T5", num_layers=1, num_decoder_layers=1)


def events(body):
    return [json.loads(part.removeprefix(b"data: ")) for part in body.split(b"\n\n") if part]


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Running]:
    repository = tmp_path_factory.mktemp("repository")
    dlbridge.convert(tiny("GPT2", n_layer=1), "onnx", repository / "gpt", task="generate", check=False)
    words = {f"w{index}": index for index in range(48)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(repository / "gpt" / "tokenizer.json"))
    dlbridge.convert(translator(), "onnx", repository / "t5", task="generate", check=False)
    tokenizer.save(str(repository / "t5" / "tokenizer.json"))
    write_entry(repository, "double")
    running = start(repository)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def wanted():
    return said_by_transformers(tiny("GPT2", n_layer=1), 8, [PROMPT])[0]


def test_the_whole_text_and_the_tokens(served, wanted):
    status, found, _ = served.ask("POST", "/v2/models/gpt/generate", {"text_input": "w5 w6 w7", "max_tokens": 8})
    assert status == 200, found
    assert found["tokens"] == wanted and found["text_output"].split() == [f"w{token}" for token in wanted]
    asked = {"tokens": PROMPT, "parameters": {"max_tokens": 8}}
    status, found, _ = served.ask("POST", "/v2/models/gpt/versions/1/generate", asked)
    assert found == {"model_name": "gpt", "model_version": "1", "tokens": wanted}


def test_tokens_as_they_come(served, wanted):
    asked = {"text_input": "w5 w6 w7", "max_tokens": 8}
    status, body, headers = served.ask("POST", "/v2/models/gpt/generate_stream", asked)
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    found = events(body)
    assert [event["tokens"] for event in found] == [[token] for token in wanted]
    assert "".join(event["text_output"] for event in found).split() == [f"w{token}" for token in wanted]
    drawn = [
        served.ask("POST", "/v2/models/gpt/generate", {"tokens": PROMPT, "temperature": 2.0, "seed": seed})[1]["tokens"]
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_an_encoder_and_its_decoder_are_asked_by_the_name_of_their_folder(served):
    (wanted,) = said_by_transformers(translator(), 6, [PROMPT])
    assert served.ask("GET", "/v2/models/t5/ready")[0] == 200
    named = {row["name"] for row in served.ask("POST", "/v2/repository/index", {})[1]}
    assert named == {"double", "gpt", "t5.decoder", "t5.encoder"}
    asked = {"text_input": "w5 w6 w7", "max_tokens": 6}
    status, found, _ = served.ask("POST", "/v2/models/t5/generate", asked)
    assert (status, found["tokens"], found["model_name"]) == (200, wanted, "t5"), found
    assert found["text_output"].split() == [f"w{token}" for token in wanted]
    status, body, _ = served.ask("POST", "/v2/models/t5/generate_stream", {"tokens": PROMPT, "max_tokens": 6})
    assert [event["tokens"] for event in events(body)] == [[token] for token in wanted]


@pytest.mark.slow
def test_an_encoder_takes_what_is_no_text_and_its_folder_is_served_alone(tmp_path):
    module = tiny("Whisper", encoder_layers=1, decoder_layers=1)
    dlbridge.convert(module, "onnx", tmp_path / "whisper", task="generate", check=False)
    wanted = said_by_transformers(module, 6)
    running = start(tmp_path / "whisper")
    try:
        for heard, tokens in zip(features().numpy(), wanted, strict=True):
            given = {"name": "input_features", "datatype": "FP32", "shape": [1, *heard.shape], "data": heard.tolist()}
            asked = {"inputs": [given], "max_tokens": 6}
            status, found, _ = running.ask("POST", "/v2/models/whisper/generate", asked)
            assert (status, found.get("tokens")) == (200, tokens), found
        status, found, _ = running.ask("POST", "/v2/models/whisper/generate", {"tokens": [1], "max_tokens": 6})
        assert status == 400 and "nothing is given for the encoder" in found["error"]
    finally:
        running.stop()


@pytest.mark.parametrize(
    ("model", "body", "status", "message"),
    [
        ("gpt", {}, 400, "text_input or tokens"),
        ("gpt", {"tokens": [1], "text_input": "w1"}, 400, "text_input or tokens"),
        ("gpt", {"tokens": ["a"]}, 400, "whole numbers"),
        ("gpt", {"tokens": []}, 400, "whole numbers"),
        ("gpt", {"tokens": [1], "max_token": 3}, 400, "no option 'max_token'"),
        ("gpt", {"tokens": [1], "max_tokens": 0}, 400, "max_tokens is 0"),
        ("gpt", {"tokens": [1], "max_tokens": True}, 400, "'max_tokens' is True"),
        ("gpt", {"tokens": [1], "temperature": -1}, 400, "no temperature"),
        ("gpt", {"tokens": [1], "stop": ["x"]}, 400, "no list of tokens"),
        ("gpt", {"tokens": [1] * 200}, 400, "made for"),
        ("double", {"tokens": [1]}, 400, "no model that generates"),
        ("gpt", {"inputs": []}, 400, "no encoder that takes inputs"),
        ("t5", {"inputs": []}, 400, "takes the prompts and nothing else"),
        ("t5", {"inputs": 3}, 400, "no list of inputs"),
        ("t5.decoder", {"tokens": [1]}, 400, "whose encoder is not there"),
        ("nothing", {"tokens": [1]}, 404, "nothing"),
    ],
)
def test_what_is_no_such_request_is_refused(served, model, body, status, message):
    found, answer, _ = served.ask("POST", f"/v2/models/{model}/generate", body)
    assert (found, message in answer["error"]) == (status, True), answer


def test_a_text_that_ends_within_a_character_is_whole_in_a_stream():
    asked = object.__new__(Generation)
    asked._name, asked._version = "model", "1"
    model = tokenizers.models.WordLevel(
        {"\u00c3": 0, "\u00a9": 1, "a": 2}, unk_token="a"
    )  # the bytes of an \u00e9, and an a
    asked._tokenizer = object.__new__(Tokenizer)
    asked._tokenizer._tokenizer, asked._tokenizer._path = tokenizers.Tokenizer(model), "tokenizer.json"
    asked._tokenizer._tokenizer.decoder = tokenizers.decoders.Sequence(
        [tokenizers.decoders.Fuse(), tokenizers.decoders.ByteLevel()]
    )

    async def tokens():
        for token in (2, 0, 1, 0):
            yield token

    async def found():
        return [event["text_output"] async for event in asked._events()]

    asked._stream = tokens
    assert asyncio.run(found()) == ["a", "", "\u00e9", "", "\N{REPLACEMENT CHARACTER}"]
