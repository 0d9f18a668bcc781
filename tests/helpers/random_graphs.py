"""Random ONNX graphs of mixed ops: shapes with ones and zeros, broadcasting, a batch that is known by name alone."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from tests.helpers.random_steps import BATCH, STEPS, Shape

UNARY = ["Abs", "Neg", "Relu", "Sigmoid", "Tanh", "Softplus", "Erf", "Floor", "Ceil", "Sign"]
UNARY += ["LeakyRelu", "Elu", "HardSwish", "Gelu", "Mish", "Sin", "Identity"]
BINARY = ["Add", "Sub", "Mul", "Max", "Min"]
REDUCTIONS = ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd"]
COMPARISONS = ["Greater", "Less", "Equal", "GreaterOrEqual"]


class Graph:
    """A graph in the making, driven by one generator of random numbers."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shapes: dict[str, Shape] = {}
        self.inputs: list[str] = []

    @property
    def is_empty(self) -> bool:
        """Whether a tensor of it has no elements."""
        return any(0 in shape for shape in self.shapes.values())

    # --- parts -----------------------------------------------------------------------------------------------------

    def build(self) -> onnx.ModelProto:
        for _ in range(self.random.integers(1, 3)):
            self._input()
        for _ in range(self.random.integers(3, 12)):
            self._step()
        while len(self.shapes) == len(self.inputs):
            self._step()
        made = [name for name in self.shapes if name not in self.inputs]
        last = made[-int(self.random.integers(1, 3)) :]
        outputs = [helper.make_tensor_value_info(n, 1, list(self.shapes[n])) for n in last]
        inputs = [helper.make_tensor_value_info(n, 1, list(self.shapes[n])) for n in self.inputs]
        graph = helper.make_graph(self.nodes, "random", inputs, outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)

    def arrays(self, batch: int) -> dict[str, np.ndarray]:
        """Numbers for the inputs."""
        return {
            name: self.random.normal(size=[batch if d == BATCH else d for d in self.shapes[name]]).astype(np.float32)
            for name in self.inputs
        }

    def _input(self) -> None:
        name, rank = f"x{len(self.inputs)}", self.random.integers(1, 5)
        sizes = self.random.choice([1, 2, 3, 4, 5, 0], size=rank - 1, p=[0.2, 0.2, 0.25, 0.2, 0.12, 0.03])
        self.inputs.append(name)
        self.shapes[name] = (BATCH, *(int(s) for s in sizes))

    def _step(self) -> None:
        name = str(self.random.choice(list(self.shapes)[-4:]))
        if not self.shapes[name]:
            self._unary(name, ())
            return
        kinds = [self._unary, self._binary, self._constant, self._reduce, self._transpose, self._concat, self._slice]
        kinds += [self._pad, self._unsqueeze, self._softmax, self._gather, self._where, self._matmul, self._reshape]
        kinds += [self._expand, self._split, self._norm, self._conv, self._pool, self._argmax, self._cumsum, self._tile]
        step = self.random.choice([*kinds, *(partial(step, self) for step in STEPS)])  # type: ignore[arg-type]
        step(name, self.shapes[name])

    def node(self, op: str, inputs: list[str], shape: Shape, outputs: int = 1, **attributes) -> str:
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"n{len(self.nodes)}", **attributes))
        self.shapes[names[0]] = shape
        return names[0]

    def hidden(self, op: str, inputs: list[str], **attributes) -> str:
        """The output of a node that no step reads: not float32, or half of something."""
        name = self.node(op, inputs, (), **attributes)
        del self.shapes[name]
        return name

    def hold(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def ints(self, *values: int) -> str:
        return self.hold(np.array(values, np.int64))

    def numbers(self, shape) -> str:
        return self.hold(self.random.normal(size=shape).astype(np.float32))

    def _axis(self, shape: Shape) -> int:
        return int(self.random.integers(-len(shape), len(shape)))

    # --- steps: each adds nodes, or nothing where it does not fit --------------------------------------------------

    def _unary(self, x: str, shape: Shape) -> None:
        self.node(str(self.random.choice(UNARY)), [x], shape)

    def _binary(self, x: str, shape: Shape) -> None:
        fitting = [n for n, other in self.shapes.items() if broadcast(shape, other) is not None]
        other = str(self.random.choice(fitting))
        pair = [x, other] if self.random.random() < 0.5 else [other, x]
        self.node(str(self.random.choice(BINARY)), pair, broadcast(shape, self.shapes[other]))  # type: ignore[arg-type]

    def _constant(self, x: str, shape: Shape) -> None:
        rank = int(self.random.integers(0, len(shape) + 1))
        tail = [d if isinstance(d, int) and self.random.random() < 0.6 else 1 for d in shape[len(shape) - rank :]]
        pair = [x, self.numbers(tail)]
        pair = pair if self.random.random() < 0.5 else pair[::-1]
        self.node(str(self.random.choice(BINARY)), pair, shape)

    def _reduce(self, x: str, shape: Shape) -> None:
        axes = sorted({self._axis(shape) % len(shape) for _ in range(self.random.integers(1, 3))})
        op, keep = str(self.random.choice(REDUCTIONS)), int(self.random.integers(0, 2))
        if any(shape[a] == 0 for a in axes) and op in ("ReduceMax", "ReduceMin", "ReduceMean"):
            return  # of nothing there is no largest
        kept = tuple(1 if i in axes else d for i, d in enumerate(shape) if keep or i not in axes)
        self.node(op, [x, self.ints(*axes)], kept, keepdims=keep)

    def _transpose(self, x: str, shape: Shape) -> None:
        perm = [int(p) for p in self.random.permutation(len(shape))]
        self.node("Transpose", [x], tuple(shape[p] for p in perm), perm=perm)

    def _concat(self, x: str, shape: Shape) -> None:
        axis = self._axis(shape) % len(shape)
        if isinstance(shape[axis], str):
            return
        alike = [
            n
            for n, other in self.shapes.items()
            if len(other) == len(shape)
            and isinstance(other[axis], int)
            and all(a == b for i, (a, b) in enumerate(zip(shape, other, strict=True)) if i != axis)
        ]
        other = str(self.random.choice(alike))
        total = shape[axis] + self.shapes[other][axis]  # type: ignore[operator]
        self.node("Concat", [x, other], (*shape[:axis], total, *shape[axis + 1 :]), axis=axis)

    def _slice(self, x: str, shape: Shape) -> None:
        axis = self._axis(shape) % len(shape)
        size = shape[axis]
        if not isinstance(size, int) or size < 2:
            return
        start, step = int(self.random.integers(-size, size)), int(self.random.choice([1, 1, 2, -1]))
        end = int(self.random.integers(-size, size + 1)) if step > 0 else -size - 1
        count = len(range(size)[slice(start, None if end < -size else end, step)])
        self.node(
            "Slice",
            [x, self.ints(start), self.ints(end), self.ints(axis), self.ints(step)],
            (*shape[:axis], count, *shape[axis + 1 :]),
        )

    def _pad(self, x: str, shape: Shape) -> None:
        mode = str(self.random.choice(["constant", "edge", "reflect"]))
        amounts = [
            (0, 0) if isinstance(d, str) or d < 3 else tuple(int(a) for a in self.random.integers(0, 2, 2))
            for d in shape
        ]
        pads = self.ints(*(a for a, _ in amounts), *(b for _, b in amounts))
        grown = tuple(d if isinstance(d, str) else d + a + b for d, (a, b) in zip(shape, amounts, strict=True))
        value = [self.hold(np.float32(self.random.normal()))] if mode == "constant" else []
        self.node("Pad", [x, pads, *value], grown, mode=mode)

    def _unsqueeze(self, x: str, shape: Shape) -> None:
        ones = [i for i, d in enumerate(shape) if d == 1]
        if ones and self.random.random() < 0.6:
            axis = int(self.random.choice(ones))
            self.node("Squeeze", [x, self.ints(axis)], shape[:axis] + shape[axis + 1 :])
        elif len(shape) < 5:
            axis = int(self.random.integers(0, len(shape) + 1))
            self.node("Unsqueeze", [x, self.ints(axis)], (*shape[:axis], 1, *shape[axis:]))

    def _softmax(self, x: str, shape: Shape) -> None:
        self.node(str(self.random.choice(["Softmax", "LogSoftmax"])), [x], shape, axis=self._axis(shape))

    def _gather(self, x: str, shape: Shape) -> None:
        axis = self._axis(shape) % len(shape)
        size = shape[axis]
        if isinstance(size, int) and size:
            indices = self.random.integers(-size, size, self.random.integers(1, 4))
            kept = (*shape[:axis], len(indices), *shape[axis + 1 :])
            self.node("Gather", [x, self.ints(*indices)], kept, axis=axis)

    def _where(self, x: str, shape: Shape) -> None:
        zero = self.hold(np.float32(0.1))
        self.node(str(self.random.choice(COMPARISONS)), [x, zero], shape)
        condition = self.nodes[-1].output[0]
        del self.shapes[condition]
        self.node("Where", [condition, x, self.numbers([])], shape)

    def _matmul(self, x: str, shape: Shape) -> None:
        if len(shape) >= 2 and isinstance(shape[-1], int) and shape[-1]:
            width = int(self.random.integers(1, 5))
            self.node("MatMul", [x, self.numbers([shape[-1], width])], (*shape[:-1], width))

    def _reshape(self, x: str, shape: Shape) -> None:
        if shape[0] != BATCH or BATCH in shape[1:] or len(shape) < 2 or 0 in shape:
            return
        inner = int(np.prod(shape[1:]))  # type: ignore[arg-type]
        sizes = [d for d in range(1, inner + 1) if inner % d == 0]
        first = int(self.random.choice(sizes))
        target = self.ints(*self.random.choice([[0, first, -1], [-1, first, inner // first]]))
        self.node("Reshape", [x, target], (BATCH, first, inner // first))

    def _expand(self, x: str, shape: Shape) -> None:
        wanted = [3 if d == 1 else 1 for d in shape]
        grown = tuple(3 if d == 1 else d for d in shape)
        self.node("Expand", [x, self.ints(*wanted)], grown)

    def _split(self, x: str, shape: Shape) -> None:
        axis = self._axis(shape) % len(shape)
        size = shape[axis]
        if isinstance(size, int) and size >= 2:
            first = int(self.random.integers(1, size))
            name = self.node(
                "Split", [x, self.ints(first, size - first)], (*shape[:axis], first, *shape[axis + 1 :]), 2, axis=axis
            )
            self.shapes[name[:-1] + "1"] = (*shape[:axis], size - first, *shape[axis + 1 :])

    def _norm(self, x: str, shape: Shape) -> None:
        if isinstance(shape[-1], int) and shape[-1] > 2 and len(shape) > 1:  # two would be -1 and 1: ties
            self.node("LayerNormalization", [x, self.numbers([shape[-1]]), self.numbers([shape[-1]])], shape, axis=-1)

    def _conv(self, x: str, shape: Shape) -> None:
        if len(shape) in (3, 4) and shape[0] == BATCH and all(isinstance(d, int) and d > 0 for d in shape[1:]):
            rank, out = len(shape) - 2, int(self.random.integers(1, 4))
            weight = self.numbers([out, shape[1], *[3] * rank])
            self.node("Conv", [x, weight], (BATCH, out, *shape[2:]), pads=[1] * 2 * rank)

    def _pool(self, x: str, shape: Shape) -> None:
        inner = shape[2:]
        if len(shape) in (3, 4) and shape[0] == BATCH and all(isinstance(d, int) and d > 1 for d in inner) and shape[1]:
            op = str(self.random.choice(["MaxPool", "AveragePool"]))
            sizes = tuple((d - 2) // 2 + 1 for d in inner)  # type: ignore[operator]
            self.node(op, [x], (*shape[:2], *sizes), kernel_shape=[2] * len(inner), strides=[2] * len(inner))

    def _argmax(self, x: str, shape: Shape) -> None:
        axis = self._axis(shape)
        if shape[axis] == 0:
            return
        kept = tuple(1 if i == axis % len(shape) else d for i, d in enumerate(shape))
        self.node("ArgMax", [x], kept, axis=axis, keepdims=1)
        places = self.nodes[-1].output[0]
        del self.shapes[places]
        self.node("Cast", [places], kept, to=1)

    def _cumsum(self, x: str, shape: Shape) -> None:
        options = {"exclusive": int(self.random.integers(0, 2)), "reverse": int(self.random.integers(0, 2))}
        self.node("CumSum", [x, self.hold(np.int64(self._axis(shape)))], shape, **options)

    def _tile(self, x: str, shape: Shape) -> None:
        times = [1 if isinstance(d, str) else int(self.random.integers(1, 3)) for d in shape]
        grown = tuple(d if isinstance(d, str) else d * t for d, t in zip(shape, times, strict=True))
        self.node("Tile", [x, self.ints(*times)], grown)


def broadcast(a: Shape, b: Shape) -> Shape | None:
    """The shape of an elementwise op on both; None where they do not fit whatever the batch is."""
    rank = max(len(a), len(b))
    sizes: list[int | str] = []
    for p, q in zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True):
        if p != q and 1 not in (p, q):
            return None
        sizes.append(q if p == 1 else p)
    return tuple(sizes)


def right_answers(proto, runs):
    """What onnxruntime computes of a graph without optimizing it, for each of the inputs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return [dict(zip(names, session.run(None, arrays), strict=True)) for arrays in runs]
