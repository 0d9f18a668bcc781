"""Text and tokens by models that were written to generate: Triton's ``generate`` and ``generate_stream``, over HTTP.

Each step is a request like any other, so it has its turn in the model's queue and its place in the statistics. Requests
that generate are not joined to batches: engines that are made for that do so at each step.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from dlbridge.decoding import METADATA_KEY, Settings
from dlbridge.errors import DlbridgeError
from dlbridge.repository.datatypes import KINDS
from dlbridge.serving.http.messages import check, parameters_of, tensors_of
from dlbridge.serving.problems import ServingError
from dlbridge.serving.requests import InferRequest
from dlbridge.serving.service import Service
from dlbridge.serving.tensors import from_array, to_array

if TYPE_CHECKING:
    from dlbridge.runtime.generation import Generator, Part
    from dlbridge.runtime.text import Tokenizer

#: Option -> the types of its values.
_OPTIONS: dict[str, tuple[type, ...]] = {
    "max_tokens": (int,),
    "temperature": (int, float),
    "top_k": (int,),
    "top_p": (int, float),
    "seed": (int,),
    "stop": (list,),
}
#: What a request has beside options.
_GIVEN = ("text_input", "tokens", "inputs", "parameters", "id")
_DEFAULT_TOKENS, _MOST_TOKENS = 64, 1 << 16


class Generation:
    """A request for text or tokens.

    Args:
        service: What answers.
        name: The model; of an encoder with its decoder, what their folder is called.
        version: The version that is asked for; "" for the newest.
        body: The request: ``text_input`` or ``tokens``, and options, beside it or among ``parameters``. An encoder that
            takes no text gets ``inputs``, as in a request for inference; ``tokens`` are then what the decoder begins
            with, and may be left out.

    Raises:
        ServingError: When the model does not generate, or the body is no such request.
    """

    def __init__(self, service: Service, name: str, version: str, body: Mapping[str, Any]) -> None:
        self._service, self._name = service, name
        self._decoder, self._encoder = service.repository.parts(name)
        self._version = version or str(service.repository.version(self._decoder, "").version)
        said = {key: value for key, value in body.items() if key not in _GIVEN}
        self._options = _options({**parameters_of(body, "the request"), **said})
        self._settings = self._special_tokens()
        self._tokenizer: Tokenizer | None = None
        self._given = self._arrays(body)
        self._prompt = [] if self._given is not None and not body.get("tokens") else self._tokens(body)

    async def answer(self) -> dict[str, Any]:
        """The whole text."""
        tokens = [token async for token in self._stream()]
        text = {"text_output": self._tokenizer.decode(tokens)} if self._tokenizer is not None else {}
        return {**self._named, **text, "tokens": tokens}

    async def events(self) -> AsyncIterator[bytes]:
        """The tokens as they come, as events of the server; what fails on the way is an event, too."""
        try:
            async for event in self._events():
                yield b"data: " + orjson.dumps(event) + b"\n\n"
        except DlbridgeError as error:
            yield b"data: " + orjson.dumps({"error": str(error)}) + b"\n\n"

    async def _events(self) -> AsyncIterator[dict[str, Any]]:
        seen: list[int] = []
        said = ""
        async for token in self._stream():
            seen.append(token)
            if self._tokenizer is None:
                yield {**self._named, "tokens": [token]}
                continue
            text = self._tokenizer.finished(seen)
            piece = "" if text is None else text[len(said) :]
            said = said if text is None else text
            yield {**self._named, "text_output": piece, "tokens": [token]}
        rest = self._tokenizer.decode(seen)[len(said) :] if self._tokenizer is not None else ""
        if rest:  # the text ends within a character
            yield {**self._named, "text_output": rest, "tokens": []}

    @property
    def _named(self) -> dict[str, str]:
        return {"model_name": self._name, "model_version": self._version}

    # --- the request --------------------------------------------------------------------------------------------------

    def _special_tokens(self) -> Settings:
        config = self._service.config(self._decoder, self._version)
        if METADATA_KEY not in config.parameters:
            raise ServingError(
                "it is no model that generates",
                where=self._name,
                hint="'dlbridge convert MODEL --task generate --to onnx' writes one",
            )
        return Settings.loads(config.parameters[METADATA_KEY].string_value, self._name)

    def _arrays(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """What is given for an encoder that takes no text; None where nothing is."""
        if "inputs" not in body:
            return None
        check(self._encoder is not None, "it has no encoder that takes inputs")
        tensors = tensors_of(body, self._service.memory)
        for name, tensor in tensors.items():
            check(tensor.shape[:1] == (1,), f"input '{name}' has not one row")
        return {name: to_array(tensor) for name, tensor in tensors.items()}

    def _tokens(self, body: Mapping[str, Any]) -> list[int]:
        text, tokens = body.get("text_input"), body.get("tokens")
        check((text is None) != (tokens is None), "a request has text_input or tokens")
        if tokens is not None:
            is_row = isinstance(tokens, list) and bool(tokens) and all(type(token) is int for token in tokens)
            check(is_row, "tokens are a list of whole numbers")
            return list(tokens)
        check(isinstance(text, str), "text_input is no text")
        file = self._service.repository.tokenizer(self._name)
        if file is None:
            raise ServingError("there is no tokenizer.json with it", where=self._name, hint="give tokens")
        status = file.stat()
        self._tokenizer = _tokenizer(file, status.st_mtime_ns, status.st_size)
        return self._tokenizer.encode(str(text))

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def _stream(self) -> AsyncIterator[int]:
        steps_of = self._generator().astream([self._prompt], encoder=self._given, **self._options)
        async with contextlib.aclosing(steps_of) as steps:
            async for (token,) in steps:
                if token is not None:
                    yield token

    def _generator(self) -> Generator:
        from dlbridge.runtime.generation import Generator

        encoder = None if self._encoder is None else self._part(self._encoder)
        return Generator(self._part(self._decoder), encoder, self._settings, self._name)

    def _part(self, model: str) -> Part:
        """A model of the server as a part of what generates."""
        from dlbridge.runtime.generation import Part
        from dlbridge.runtime.signature import Port

        inputs = []
        for port in self._service.model_metadata(model, self._version)["inputs"]:
            dtype = KINDS[port["datatype"]][0]
            if dtype is None:
                raise ServingError(
                    f"its input '{port['name']}' is {port['datatype']}, which is not served", where=model
                )
            inputs.append(Port(port["name"], dtype, tuple(size if size >= 0 else None for size in port["shape"])))
        return Part(functools.partial(self._run, model), tuple(inputs))

    async def _run(self, model: str, feed: Mapping[str, Any]) -> dict[str, Any]:
        tensors = {name: from_array(array) for name, array in feed.items()}
        response = await self._service.infer(InferRequest(model, tensors, self._version))
        return {name: to_array(tensor) for name, tensor in response.outputs}


@functools.lru_cache(maxsize=16)
def _tokenizer(file: Path, *stamp: int) -> Tokenizer:
    """The tokenizer of a file, which takes up to a second to read, and is read again when it has changed."""
    from dlbridge.runtime.text import Tokenizer

    return Tokenizer(file)


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the loop.

    Raises:
        ServingError: When there is none of a name, or a value is of another type.
    """
    for name, value in given.items():
        check(name in _OPTIONS, f"there is no option '{name}': {', '.join(_OPTIONS)}")
        is_one = isinstance(value, _OPTIONS[name]) and not isinstance(value, bool)
        check(is_one, f"'{name}' is {value!r}"[:200])
    tokens = given.get("max_tokens", _DEFAULT_TOKENS)
    check(1 <= tokens <= _MOST_TOKENS, f"max_tokens is {tokens}, it is 1 to {_MOST_TOKENS}")
    check(all(type(token) is int for token in given.get("stop", ())), "'stop' is no list of tokens")
    check(given.get("seed", 0) >= 0, "'seed' is negative")
    return {**given, "max_tokens": tokens}
