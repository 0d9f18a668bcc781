"""Opens layers and operations without a rule: their code runs on tensors without numbers, which records what it calls.

Code that does not run on these goes by way of TensorFlow and tf2onnx.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import onnx_ir as ir
from keras import tree

from dlbridge.errors import first_line
from dlbridge.frameworks.keras import compat
from dlbridge.frameworks.keras.graph.call_site import RefusalError
from dlbridge.frameworks.keras.names import NETWORK
from dlbridge.frameworks.keras.tracing import layer_code
from dlbridge.frameworks.keras.tracing.recording import RandomError

if TYPE_CHECKING:
    from dlbridge.frameworks.keras.graph.graph_reader import GraphReader


class Opener:
    """Opens what a reader has no rule for.

    Args:
        reader: What reads the calls that the code makes.
    """

    def __init__(self, reader: GraphReader) -> None:
        self.reader = reader

    def open(self, operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Read the ``call`` of a layer or operation as a block."""
        why = layer_code.never_opened(operation, self.reader.trust_code)
        if why is not None:
            raise RefusalError(why)
        path, before = self.reader.build.path if self.reader.build.path != NETWORK else "", len(self.reader.build.made)
        self.reader.build.blocks[path] = type(operation).__name__
        with self.reader.build.at(path, inside=True):
            result = self._read(operation, args, kwargs)
        made = self.reader.build.made[before:]
        if len(made) == 1 and path:
            del self.reader.build.blocks[path]
            with self.reader.build.at(path):
                self.reader.build.name_after_layer(made[0])
        return result

    def _read(self, operation: Any, args: tuple, kwargs: dict[str, Any], *, flat: bool = False) -> Any:
        if getattr(operation, "_call_has_training_arg", False):
            kwargs = {**kwargs, "training": False}

        def run() -> Any:
            if not isinstance(operation, keras.layers.Layer):
                return self.reader.trace(operation.call, args, kwargs, flat=flat)
            with compat.inference(operation):
                result = self.reader.trace(_call, args, kwargs, operation, method=True, flat=flat)
            if kwargs.get("training") is False and not compat.is_from_keras(type(operation)):
                self.reader.note_training(_call, args, kwargs, operation)
            return result

        return self._traced(run, operation, _call, args, kwargs)

    def inline(self, operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Read the ``call`` of a layer or operation that is not to be a block: its nodes are parts of the one here."""
        return self._read(operation, args, kwargs, flat=True)

    def run_code(self, layer: Any, function: Callable[..., Any], args: tuple) -> Any:
        """What code of a layer, a function of the layer and values, makes of values, as parts of the layer here."""

        def run() -> Any:
            return self.reader.trace(function, args, {}, layer, method=True, flat=True)

        return self._traced(run, layer, function, args, {})

    def _traced(
        self, run: Callable[[], Any], operation: Any, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
    ) -> Any:
        """What ``run`` makes, which calls ``function`` on ``KerasTensor``s; where it cannot, TensorFlow traces it."""
        before = set(self.reader.build.sizes.questions.asked)
        try:
            return run()
        except RefusalError:
            raise
        except RandomError as error:
            raise RefusalError(str(error)) from None
        except Exception as error:  # the user's code may raise anything on tensors that have no numbers
            reason = f"{type(error).__name__}: {first_line(error)[:200]}{self._last_question(before)}"
            return self._through_tensorflow(operation, function, args, kwargs, reason)

    def _last_question(self, before: set[str]) -> str:
        """What code that raised had asked of sizes, and what may be said of them instead."""
        asked = [one for question, one in self.reader.build.sizes.questions.asked.items() if question not in before]
        if not asked:
            return ""
        said = "'float32[batch,2<=n<=16]' or 'float32[batch,32*n]'"
        return f", after it asked whether {asked[-1].question} ({asked[-1].line}); inputs may say that: {said}"

    def _through_tensorflow(
        self, operation: Any, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any], reason: str
    ) -> Any:
        """What a layer makes whose code does not run on ``KerasTensor``s, by way of TensorFlow and tf2onnx."""
        from dlbridge.frameworks.keras.graph import tensorflow_code

        name = type(operation).__name__
        if not isinstance(operation, keras.layers.Layer):
            raise RefusalError(f"no rule, and its call does not run on KerasTensors ({reason}); add @layer('{name}')")
        try:
            with self.reader.build.at(self.reader.build.path, inside=True):
                return tensorflow_code.read_call(self.reader, operation, function, args, kwargs)
        except tensorflow_code.ConversionError as error:
            raise RefusalError(
                f"no rule, its call does not run on KerasTensors ({reason}), and tf2onnx does not convert it "
                f"({error}); add @layer('{name}'), or call keras.ops alone"
            ) from error

    def activation(self, value: ir.Value, function: Any) -> ir.Value:
        """Apply a layer's ``activation`` to its result."""
        if function is None or function is keras.activations.linear:
            return value
        if isinstance(function, keras.layers.Layer):
            return tree.flatten(self.reader.call(function, (value,), {}))[0]
        if function is keras.activations.mish:  # made of four operations
            return self.reader.build.op("Mish", value)
        try:
            return self.reader.trace(function, (value,), {}, flat=True)
        except RefusalError:
            raise
        except Exception as error:  # as above: the function may be the user's
            name = getattr(function, "__name__", repr(function))
            raise RefusalError(f"the activation '{name}' does not run on KerasTensors ({error})") from error


def _call(layer: Any, *args: Any, **kwargs: Any) -> Any:
    return layer_code.function_of(layer)(*args, **kwargs)
