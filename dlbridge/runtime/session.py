"""``Session``: a loaded model, called with numpy arrays that are checked against its signature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime import OrtValue

from dlbridge.errors import SignatureError, suggest
from dlbridge.runtime import values
from dlbridge.runtime.signature import Signature

#: Execution provider -> the kind of device on which it leaves values.
_DEVICES = {
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "cuda",
    "ROCMExecutionProvider": "cuda",
    "MIGraphXExecutionProvider": "cuda",
    "DmlExecutionProvider": "dml",
}


class Result(Mapping[str, np.ndarray]):
    """The outputs of one call: ``result["logits"]``, ``result.logits``, ``result[0]``; unpacks as a mapping does."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = dict(arrays)

    def __getitem__(self, key: str | int) -> np.ndarray:
        return list(self._arrays.values())[key] if isinstance(key, int) else self._arrays[key]

    def __getattr__(self, name: str) -> np.ndarray:
        arrays = self.__dict__.get("_arrays", {})
        if name not in arrays:
            raise AttributeError(f"no output '{name}'; there is {', '.join(arrays)}")
        return arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Result({', '.join(f'{n}: {a.dtype}{list(a.shape)}' for n, a in self._arrays.items())})"


class Session:
    """A model in onnxruntime. Made by :func:`load`; safe to call from several threads.

    Attributes:
        name: Where it was loaded from.
        signature: What it takes and gives, and the check of what it is given.
        inputs: What it takes.
        outputs: What it gives.
        constraints: What the named sizes of the inputs must keep (``seq <= 512``).
        metadata: What the file says beside its graph, as text by name.
        providers: The execution providers in use, by their full names.
    """

    def __init__(self, session: onnxruntime.InferenceSession, name: str) -> None:
        self._run = values.runner(session)
        self.name = name
        self.signature = Signature(session, name)
        self.inputs = self.signature.inputs
        self.outputs = self.signature.outputs
        self.constraints = self.signature.constraints
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)
        self._session = session
        self._names = [p.name for p in self.outputs]

    def __call__(self, /, *arrays: Any, **named: Any) -> Result:
        """Run the model.

        Args:
            *arrays: The inputs in order, as arrays or what ``numpy.asarray`` takes, ...
            **named: ... and by name. A name that is no Python name goes into ``session(**{"my.input": x})``.

        Raises:
            SignatureError: When a name, dtype or shape does not fit; sizes of one name must be equal.
        """
        return Result(self.run(self._by_name(arrays, named)))

    def run(self, arrays: Mapping[str, Any], outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Run the model on arrays by name.

        Args:
            arrays: Input name -> array.
            outputs: Names of the outputs that are wanted; all when None.

        Raises:
            SignatureError: When a name, dtype or shape does not fit.
        """
        feed = self.signature.check(arrays)
        names = self._names if outputs is None else self._wanted(outputs)
        if not names:
            return {}
        try:
            found = self._run(names, feed)
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            raise self._refused(feed, error) from error
        return dict(zip(names, found, strict=True))

    def run_on_device(self, arrays: Mapping[str, Any], outputs: Sequence[str] | None = None) -> dict[str, OrtValue]:
        """Run the model and leave its outputs on the device of the first provider, as the inputs of another call.

        Args:
            arrays: Input name -> array, or a value that an earlier call has left on the device.
            outputs: Names of the outputs that are wanted; all when None.

        Returns:
            Output name -> onnxruntime's value; ``.numpy()`` copies it to the host.

        Raises:
            SignatureError: When a name, dtype or shape does not fit.
        """
        feed = self.signature.check(arrays)
        names = self._names if outputs is None else self._wanted(outputs)
        device, number = self.device
        binding = self._session.io_binding()
        try:
            for name, value in feed.items():
                binding.bind_ortvalue_input(name, values.to_ort(value))
            for name in names:
                binding.bind_output(name, device, number)
            self._session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            raise self._refused(feed, error) from error
        return dict(zip(names, binding.get_outputs(), strict=True))

    @property
    def threads(self) -> int:
        """Threads for one op; 0 for as many as there are cores."""
        return int(self._session.get_session_options().intra_op_num_threads)

    @property
    def device(self) -> tuple[str, int]:
        """Where :meth:`run_on_device` leaves outputs: onnxruntime's name of the kind of device, and its number."""
        provider = self.providers[0]
        kind = _DEVICES.get(provider, "cpu")
        number = self._session.get_provider_options()[provider].get("device_id", 0)
        return kind, int(number) if kind != "cpu" else 0

    def warm_up(self, sizes: Mapping[str, int] | None = None, runs: int = 1) -> None:
        """Run the model on zeros, so that the first request does not pay for memory and kernels.

        Args:
            sizes: The named sizes of the inputs; those that are not named, and those without a name, are 1.
            runs: How often.

        Raises:
            SignatureError: When the model does not take such sizes.
        """
        zeros = {p.name: p.zeros(sizes or {}) for p in self.inputs}
        for _ in range(runs):
            self.run(zeros)

    def end_profile(self) -> Path:
        """End the profile that ``load(..., profile=...)`` has begun, and return the file: JSON for Chrome's tracing."""
        return Path(self._session.end_profiling())

    def _wanted(self, outputs: Sequence[str]) -> list[str]:
        unknown = next((name for name in outputs if name not in self._names), None)
        if unknown is not None:
            hint = suggest(unknown, self._names) or f"it gives {', '.join(map(str, self.outputs))}"
            raise SignatureError(f"the model has no output '{unknown}'", where=self.name, hint=hint)
        return list(outputs)

    def _refused(self, feed: Mapping[str, Any], error: Exception) -> SignatureError:
        shapes = ", ".join(f"{name}: {values.described(value)}" for name, value in feed.items())
        return SignatureError(f"onnxruntime could not run it on ({shapes}): {error}", where=self.name)

    def _by_name(self, arrays: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        if len(arrays) > len(self.inputs):
            raise SignatureError(
                f"{len(arrays)} arrays given, the model has {len(self.inputs)} inputs", where=self.name
            )
        given = {p.name: a for p, a in zip(self.inputs, arrays, strict=False)}
        twice = [n for n in given if n in named]
        if twice:
            raise SignatureError(f"input '{twice[0]}' is given twice, by position and by name", where=self.name)
        return {**given, **named}

    def __repr__(self) -> str:
        return f"<Session {self.name} ({', '.join(map(str, self.inputs))}) -> ({', '.join(map(str, self.outputs))})>"
