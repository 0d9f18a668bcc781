"""Generates tokens with a model that takes and returns its cache: tokens in, tokens out, one step at a time.

generator = dlbridge.runtime.generator("out/llama")     # an .onnx file, an entry, a folder with encoder and decoder
generator.generate([[1, 15, 27]], max_tokens=64)        # greedy
for tokens in generator.stream([[1, 15, 27]], temperature=0.8, top_p=0.9, seed=0): ...

The loop knows no framework: it calls what it is given with arrays by name.
"""

from __future__ import annotations

import itertools
from collections import abc
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlbridge.decoding import PAST, PRESENT, Settings
from dlbridge.errors import SignatureError
from dlbridge.runtime.sampling import Sampling
from dlbridge.runtime.signature import Port

#: Inputs of a decoder that are not its cache.
_IDS, _MASK, _POSITIONS, _ENCODER_MASK = "input_ids", "attention_mask", "position_ids", "encoder_attention_mask"
_CROSS = ".encoder."
#: No vocabulary has more tokens.
_MOST_TOKENS = 1 << 31

Arrays = Mapping[str, Any]
Rows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Part:
    """A graph that takes part in generating.

    Attributes:
        run: Arrays by input name -> arrays by output name; what it returns is awaited by ``astream`` alone.
        inputs: What it takes.
    """

    run: Callable[[dict[str, Any]], Any]
    inputs: tuple[Port, ...]

    @property
    def names(self) -> list[str]:
        return [port.name for port in self.inputs]


@dataclass(frozen=True)
class _Ask:
    """What a loop wants to be run before it goes on."""

    part: Part
    feed: dict[str, Any]


#: A loop that yields what is to be run, and is sent the outputs; or yields the next tokens.
_Loop = abc.Generator[_Ask | list[int | None], Any, None]


class Generator:
    """Generates tokens with a decoder, or with an encoder and its decoder.

    Args:
        decoder: The decoder: ``input_ids``, a mask and the cache in, ``logits`` and the cache out.
        encoder: What makes the cache of the decoder's cross-attention; None for a decoder alone.
        settings: The model's special tokens.
        name: What messages call it.

    Attributes:
        settings: The model's special tokens.

    Raises:
        SignatureError: When the decoder takes no tokens or no cache, or there is no encoder for it.
    """

    def __init__(
        self, decoder: Part, encoder: Part | None = None, settings: Settings | None = None, name: str = "model"
    ) -> None:
        self.settings = settings or Settings()
        self._decoder, self._encoder, self._name = decoder, encoder, name
        self._past = [port for port in decoder.inputs if port.name.startswith(f"{PAST}.")]
        known = {_IDS, _MASK, _POSITIONS, _ENCODER_MASK, *(port.name for port in self._past)}
        strange = [name for name in decoder.names if name not in known]
        if _IDS not in decoder.names or not self._past or strange:
            what = f"it takes '{strange[0]}'" if strange else f"it takes no '{_IDS}' or no '{PAST}.0.key'"
            raise SignatureError(
                f"{what}: this is no model that generates",
                where=name,
                hint="'dlbridge convert MODEL --task generate --to onnx' writes one",
            )
        cross = next((port for port in self._past if _CROSS in port.name), None)
        if cross is not None and encoder is None:
            raise SignatureError(
                f"it is a decoder whose encoder is not there: '{cross.name}' is made by one",
                where=name,
                hint="name the folder of both",
            )

    def generate(self, prompts: Rows, **options: Any) -> list[list[int]]:
        """The tokens that follow each prompt, up to the one that stops it.

        Args:
            prompts: As :meth:`stream`.
            options: As :meth:`stream`.
        """
        rows: list[list[int]] = []
        for tokens in self.stream(prompts, **options):
            rows = rows or [[] for _ in tokens]
            for row, token in zip(rows, tokens, strict=True):
                if token is not None:
                    row.append(token)
        return rows or [[] for _ in prompts]

    def stream(
        self,
        prompts: Rows,
        *,
        max_tokens: int = 64,
        stop: Collection[int] | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        encoder: Arrays | None = None,
    ) -> Iterator[list[int | None]]:
        """The next token of each prompt, step by step; None of a prompt that has stopped, or is still being read.

        Args:
            prompts: The tokens of each prompt; short ones are filled up at their left, or go on first where the decoder
                takes no mask. Of a model whose encoder takes tokens, what the encoder gets.
            max_tokens: How many tokens at most.
            stop: Tokens that end a text, themselves included; the model's when None.
            temperature: 0 takes the most probable token; above, tokens are drawn.
            top_k: Draw among so many of the most probable tokens.
            top_p: Draw among the most probable tokens that have this share of the probability together.
            seed: Of the random numbers.
            encoder: What the encoder gets by name, where that is no text; the prompts are then what the decoder begins
                with, the model's start where they are empty.

        Raises:
            SignatureError: When a prompt has no tokens or a negative one, an option is out of its range, or the tokens
                are more than a decoder is made for.
        """
        draws = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        loop = self._loop(prompts, max_tokens=max_tokens, stop=stop, encoder=encoder, **draws)
        item = next(loop, None)
        while item is not None:
            if isinstance(item, _Ask):
                item = loop.send(item.part.run(item.feed))
            else:
                yield item
                item = next(loop, None)

    async def astream(self, prompts: Rows, **options: Any) -> AsyncGenerator[list[int | None], None]:
        """As :meth:`stream`, where the parts are run by coroutines."""
        loop = self._loop(prompts, **options)
        item = next(loop, None)
        while item is not None:
            if isinstance(item, _Ask):
                item = loop.send(await item.part.run(item.feed))
            else:
                yield item
                item = next(loop, None)

    def _loop(
        self,
        prompts: Rows,
        *,
        max_tokens: int = 64,
        stop: Collection[int] | None = None,
        encoder: Arrays | None = None,
        **draws: Any,
    ) -> _Loop:
        sampling = Sampling(**draws)
        ends = set(self.settings.stop if stop is None else stop)
        if max_tokens < 1:
            raise SignatureError(f"{max_tokens} is no number of tokens", where=self._name)
        self._check_tokens(prompts)
        self._check_room(prompts, max_tokens)
        state = yield from self._begun(prompts, encoder)
        made, running = [0] * len(state.ids), [True] * len(state.ids)
        while any(running):
            scores = yield from state.advance()
            given = state.next_of_prompts()
            chosen = [
                self._chosen(row, count, max_tokens, sampling) if on and own is None else None
                for row, count, on, own in zip(scores, made, running, given, strict=True)
            ]
            yield chosen
            made = [count + (token is not None) for count, token in zip(made, chosen, strict=True)]
            running = [
                own is not None or (token is not None and token not in ends and count < max_tokens)
                for own, token, count in zip(given, chosen, made, strict=True)
            ]
            after = [token if own is None else own for own, token in zip(given, chosen, strict=True)]
            if any(running):
                state.append([self.settings.pad if token is None else token for token in after])

    def _chosen(self, scores: np.ndarray, step: int, steps: int, sampling: Sampling) -> int:
        """The token of a row that comes next, after so many of it."""
        banned = self.settings.suppress + (self.settings.suppress_first if step == 0 else ())
        scores[[token for token in banned if token < len(scores)]] = -np.inf
        forced = self._forced(step, steps)
        return sampling.choose(scores) if forced is None else forced

    def _forced(self, step: int, steps: int) -> int | None:
        """The token that a step takes whatever its scores are."""
        if step == steps - 1 and self.settings.last is not None:
            return self.settings.last
        return self.settings.first if step == 0 else None

    # --- how it begins ------------------------------------------------------------------------------------------------

    def _begun(self, prompts: Rows, encoder: Arrays | None) -> abc.Generator[_Ask, Any, _State]:
        if self._encoder is None:
            if encoder is not None:
                raise SignatureError("there is no encoder that takes anything", where=self._name)
            if _MASK not in self._decoder.names:
                ids, rest = self._begun_together(prompts)
                return _State(self._decoder, ids, np.ones_like(ids), self._empty(len(ids)), rest=rest)
            ids, mask = self._filled(prompts)
            return _State(self._decoder, ids, mask, self._empty(len(ids)))
        is_text = self._encoder.names[0] == _IDS
        if is_text and encoder is not None:
            raise SignatureError("its encoder takes the prompts and nothing else", where=self._name)
        if is_text:
            source, mask = self._filled(prompts)
            encoder, prompts = {_IDS: source, _MASK: mask}, [[] for _ in prompts]
        encoder = encoder or {}
        missing = [name for name in self._encoder.names if name not in encoder]
        if missing:
            raise SignatureError(f"nothing is given for the encoder: {missing[0]}", where=self._name)
        made = yield _Ask(self._encoder, {name: encoder[name] for name in self._encoder.names})
        cross = {_past(name): value for name, value in made.items()}
        first = [] if self.settings.start is None else [self.settings.start]
        begun = [list(row) or first for row in prompts]
        if not all(begun):
            raise SignatureError("it does not say what its decoder begins with", where=self._name)
        if len({len(row) for row in begun}) > 1:
            raise SignatureError("what the decoder begins with has several lengths", where=self._name)
        fixed = {**cross, **({_ENCODER_MASK: mask} if is_text else {})}
        fixed = {name: value for name, value in fixed.items() if name in self._decoder.names}
        ids = np.array(begun, np.int64)
        return _State(self._decoder, ids, np.ones_like(ids), self._empty(len(ids)), fixed)

    def _begun_together(self, prompts: Rows) -> tuple[np.ndarray, list[list[int]]]:
        """(as many tokens of each prompt as the shortest has, the others of each): a decoder that takes no mask goes on
        with the others one by one."""
        self._check(prompts)
        shortest = min(len(row) for row in prompts)
        return np.array([row[:shortest] for row in prompts], np.int64), [list(row[shortest:]) for row in prompts]

    def _check_tokens(self, prompts: Rows) -> None:
        """A table of tokens would read a negative number from its end."""
        for token in itertools.chain.from_iterable(prompts):
            if not isinstance(token, (int, np.integer)) or not 0 <= token < _MOST_TOKENS:
                raise SignatureError(f"{token!r} is no token: tokens are whole numbers from 0 on", where=self._name)

    def _check_room(self, prompts: Rows, max_tokens: int) -> None:
        """A model is not asked for what is behind the last position that it is made for, be it after hours."""
        longest, context = max(map(len, prompts), default=0), self.settings.context
        if self._encoder is not None or context is None or longest + max_tokens <= context + 1:
            return
        room = context + 1 - longest  # the last token is said, and not read
        raise SignatureError(
            f"{longest} tokens and up to {max_tokens} more are more than the {context} that it is made for",
            where=self._name,
            hint=f"max_tokens is {room} at most here" if room > 0 else "shorten the prompt",
        )

    def _check(self, prompts: Rows) -> None:
        if not prompts or not all(len(row) for row in prompts):
            raise SignatureError("a prompt has no tokens", where=self._name, hint="begin with the model's first token")

    def _filled(self, prompts: Rows) -> tuple[np.ndarray, np.ndarray]:
        """(tokens, mask) of prompts, filled up at their left."""
        self._check(prompts)
        longest = max(len(row) for row in prompts)
        ids = np.full((len(prompts), longest), self.settings.pad, np.int64)
        mask = np.zeros((len(prompts), longest), np.int64)
        for index, row in enumerate(prompts):
            ids[index, longest - len(row) :] = row
            mask[index, longest - len(row) :] = 1
        return ids, mask

    def _empty(self, rows: int) -> dict[str, np.ndarray]:
        """The cache before the first token."""
        own = [port for port in self._past if _CROSS not in port.name]
        found = {}
        for port in own:
            _, heads, _, width = port.shape
            if not isinstance(heads, int) or not isinstance(width, int):
                raise SignatureError(f"the heads of '{port}' are not known", where=self._name)
            found[port.name] = np.zeros((rows, heads, 0, width), port.dtype)
        return found


class _State:
    """What has been generated so far: the tokens of the next step, the mask, the cache.

    Args:
        decoder: The decoder.
        ids: The tokens of the next step.
        mask: What of all tokens counts.
        past: The cache.
        fixed: What is the same in each step.
        rest: The tokens of each prompt that are still to come, where prompts have several lengths and there is no mask.
    """

    def __init__(
        self,
        decoder: Part,
        ids: np.ndarray,
        mask: np.ndarray,
        past: dict[str, Any],
        fixed: Arrays | None = None,
        rest: Sequence[list[int]] = (),
    ) -> None:
        self.ids = ids
        self._rest = list(rest) or [[] for _ in ids]
        self._decoder, self._mask, self._past, self._fixed = decoder, mask, past, dict(fixed or {})

    def advance(self) -> abc.Generator[_Ask, Any, np.ndarray]:
        """Run the decoder on the next tokens; the scores of what follows, in float64."""
        feed = {_IDS: self.ids, **self._past, **self._fixed}
        names = self._decoder.names
        if _MASK in names:
            feed[_MASK] = self._mask
        if _POSITIONS in names:
            positions = np.where(self._mask == 0, 0, self._mask.cumsum(-1) - 1)
            feed[_POSITIONS] = positions[:, -self.ids.shape[1] :]
        made = yield _Ask(self._decoder, feed)
        self._past = {_past(name): value for name, value in made.items() if _past(name) in self._past}
        return np.asarray(made["logits"])[:, -1].astype(np.float64)

    def next_of_prompts(self) -> list[int | None]:
        """The next token of each prompt; None of one that has come to its end."""
        return [row.pop(0) if row else None for row in self._rest]

    def append(self, tokens: Sequence[int]) -> None:
        """Go on with these tokens, one a row."""
        self.ids = np.array(tokens, np.int64)[:, None]
        self._mask = np.concatenate([self._mask, np.ones_like(self.ids)], 1)


def _past(name: str) -> str:
    """The input that takes what an output has given in the step before."""
    head, dot, rest = name.partition(".")
    return f"{PAST}.{rest}" if dot and head == PRESENT else name
