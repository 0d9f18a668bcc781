"""What a case is: one op with its inputs and attributes.

It is judged by the ONNX reference evaluator (or by onnxruntime where the reference leaves something out), at two
batch sizes; the graph knows the batch by name alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from dlbridge.model import Model
from dlbridge.ops import extension, traits


@dataclass(frozen=True)
class X:
    """A graph input of random numbers; an axis in ``free`` is known by name alone and grows by 1 in the second run."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    free: tuple[int, ...] = (0,)
    make: Callable[[np.ndarray], np.ndarray] | None = None

    def array(self, rng: np.random.Generator, more: int) -> np.ndarray:
        shape = [n + more if axis in self.free else n for axis, n in enumerate(self.shape)]
        numbers = rng.standard_normal(shape)
        if self.make is not None:
            return np.asarray(self.make(numbers)).astype(self.dtype)
        return (numbers * (1 if np.dtype(self.dtype).kind == "f" else 4)).astype(self.dtype)


@dataclass(frozen=True)
class W:
    """A trained weight of random numbers."""

    shape: tuple[int, ...]
    make: Callable[[np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class C:
    """A constant."""

    values: Any
    dtype: str = "int64"


@dataclass(frozen=True)
class Case:
    """One op with its inputs and attributes.

    Attributes:
        op: The op type; with its domain before a colon where that is not the default one.
        inputs: What it reads; None for an input that is not given.
        attributes: Its attributes.
        outputs: How many outputs it has.
        layer: What the PyTorch source must contain, where a layer is expected.
        judge: "reference" or "onnxruntime", with an older opset behind a colon where it has no kernel for this one.
        tolerance: Largest difference, relative and absolute.
    """

    op: str
    inputs: tuple[X | W | C | None, ...]
    attributes: dict[str, Any]
    outputs: int = 1
    layer: str | None = None
    judge: str = "reference"
    tolerance: float = 1e-5

    def __str__(self) -> str:
        shown = [f"{k}={v}" for k, v in self.attributes.items()]
        kinds = "".join("-" if i is None else type(i).__name__.lower() for i in self.inputs)
        shape = next(("x".join(map(str, i.shape)) for i in self.inputs if isinstance(i, X)), "")
        return f"{self.op}[{kinds} {shape} {' '.join(shown)}]".replace(", ", ",")

    def proto(self) -> onnx.ModelProto:
        """The model of the one node, at ``IR_OPSET``."""
        domain, _, op_type = self.op.rpartition(":")
        rng = np.random.default_rng(11)
        names, inputs, initializers = [], [], []
        for i, given in enumerate(self.inputs):
            name = f"in{i}"
            names.append("" if given is None else name)
            if isinstance(given, X):
                shape = [f"free{a}" if a in given.free else n for a, n in enumerate(given.shape)]
                dtype = helper.np_dtype_to_tensor_dtype(np.dtype(given.dtype))
                inputs.append(helper.make_tensor_value_info(name, dtype, shape))
            elif isinstance(given, W):
                numbers = rng.standard_normal(given.shape)
                numbers = numbers if given.make is None else given.make(numbers)
                initializers.append(numpy_helper.from_array(numbers.astype(np.float32), name))
            elif isinstance(given, C):
                initializers.append(numpy_helper.from_array(np.array(given.values, given.dtype), name))
        outs = [f"out{i}" for i in range(self.outputs)]
        node = helper.make_node(op_type, names, outs, name="node", domain=domain, **self.attributes)
        graph = helper.make_graph([node], "case", inputs, [onnx.ValueInfoProto(name=o) for o in outs], initializers)
        imports = [helper.make_opsetid("", traits.IR_OPSET)]
        if domain:
            imports.append(helper.make_opsetid(domain, extension.DOMAIN_VERSION))
        return helper.make_model(graph, opset_imports=imports, ir_version=traits.IR_VERSION)

    def model(self) -> Model:
        """The same as a ``Model``, in which weights are trained."""
        model = Model(ir.from_proto(self.proto()))
        for i, given in enumerate(self.inputs):
            if isinstance(given, W):
                traits.set_kind(model.graph.initializers[f"in{i}"], "parameter")
        return model

    def runs(self) -> list[tuple[dict[str, np.ndarray], list[np.ndarray]]]:
        """(inputs by name, outputs as the judge has them) at two batch sizes."""
        proto = ir.to_proto(self.model().ir)
        found = []
        for more in (0, 1):
            rng = np.random.default_rng(5 + more)
            given = {f"in{i}": x.array(rng, more) for i, x in enumerate(self.inputs) if isinstance(x, X)}
            found.append((given, _judge(self.judge, proto, given)))
        return found


def _judge(judge: str, proto: onnx.ModelProto, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    foreign = {n.domain for n in proto.graph.node} - {"", extension.DOMAIN}
    if foreign:
        raise ValueError(f"cases are ops of the standard or of dlbridge: CONTRIBUTING.md has another way for {foreign}")
    if judge == "reference":
        with np.errstate(all="ignore"):
            return [np.asarray(o) for o in ReferenceEvaluator(proto).run(None, given)]
    import onnxruntime

    proto.opset_import[0].version = int(judge.partition(":")[2] or traits.IR_OPSET)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    inferred = onnx.shape_inference.infer_shapes(proto)
    session = onnxruntime.InferenceSession(inferred.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, given)


def case(op: str, *inputs: Any, **options: Any) -> Case:
    """A case: its inputs, then its attributes and what else a ``Case`` has, by name."""
    own = {k: options.pop(k) for k in ("outputs", "layer", "judge", "tolerance") if k in options}
    return Case(op, inputs, options, **own)


def positive(numbers: np.ndarray) -> np.ndarray:
    """Numbers of at least 0.1."""
    return np.abs(numbers) + 0.1


IMAGE, SQUARE = X((2, 3, 7, 6)), X((2, 4, 4, 4))
