"""A model that was written to generate, served: the whole text, tokens as they come, and what is no such request."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import dlbridge
from tests.helpers.generating import said_by_transformers, tiny
from tests.helpers.serving import Running, start, write_entry

pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

PROMPT = [5, 6, 7]


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Running]:
    repository = tmp_path_factory.mktemp("repository")
    dlbridge.convert(tiny("GPT2", n_layer=1), "onnx", repository / "gpt", task="generate", check=False)
    words = {f"w{index}": index for index in range(48)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(repository / "gpt" / "tokenizer.json"))
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
    events = [json.loads(part.removeprefix(b"data: ")) for part in body.split(b"\n\n") if part]
    assert [event["tokens"] for event in events] == [[token] for token in wanted]
    assert "".join(event["text_output"] for event in events).split() == [f"w{token}" for token in wanted]
    drawn = [
        served.ask("POST", "/v2/models/gpt/generate", {"tokens": PROMPT, "temperature": 2.0, "seed": seed})[1]["tokens"]
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


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
        ("gpt", {"tokens": [1] * 200}, 400, "out of data bounds"),
        ("double", {"tokens": [1]}, 400, "no model that generates"),
        ("nothing", {"tokens": [1]}, 404, "nothing"),
    ],
)
def test_what_is_no_such_request_is_refused(served, model, body, status, message):
    found, answer, _ = served.ask("POST", f"/v2/models/{model}/generate", body)
    assert (found, message in answer["error"]) == (status, True), answer
