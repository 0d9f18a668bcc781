"""lift.masks: a computed mask of attention is recognised or left as it is, and never says something else."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from dlbridge.model import Model
from dlbridge.passes import shapes
from dlbridge.passes.lift import lift

SIZES = [(1, 1, 0), (2, 5, 0), (3, 4, 3), (2, 1, 6)]


class Draw:
    """Text of ONNX for a random predicate of (batch, query, key), with what it says by numpy."""

    def __init__(self, seed: int, has_past: bool) -> None:
        self.random = np.random.default_rng(seed)
        self.lines: list[str] = []
        self.has_past = has_past

    def one_of(self, *choices):
        return choices[self.random.integers(len(choices))]

    def new(self, code: str) -> str:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {code}")
        return name

    def number(self, value: int) -> str:
        return self.new(f"Constant <value_int = {value}> ()")

    def list(self, *values: int) -> str:
        return self.new(f"Constant <value_ints = [{', '.join(map(str, values))}]> ()")

    # indices ------------------------------------------------------------------------------------------------------

    def count(self, value: str, axis: int) -> str:
        return self.new(f"Squeeze({self.new(f'Shape <start = {axis}, end = {axis + 1}> ({value})')})")

    def places(self, count: str) -> str:
        zero, one = self.number(0), self.number(1)
        if self.one_of(True, True, False):
            return self.new(f"Range({zero}, {count}, {one})")
        ones = self.new(f"Expand({self.list(1)}, {self.new(f'Reshape({count}, {self.list(1)})')})")
        return self.new(f"Sub({self.new(f'CumSum({ones}, {zero})')}, {one})")

    def along(self, places: str, axis: int) -> str:
        """Places along an axis of four."""
        if self.one_of(True, False):
            return self.new(f"Reshape({places}, {self.list(*(-1 if a == axis else 1 for a in range(4)))})")
        return self.new(f"Unsqueeze({places}, {self.list(*(a for a in range(4) if a != axis))})")

    def queries(self, offset: int = 0) -> str:
        places = self.places(self.count("x", 1))
        if self.has_past:
            places = self.new(f"Add({places}, {self.count('past', 1)})")
        if offset:
            places = self.new(f"Add({places}, {self.number(offset)})")
        return self.along(places, 2)

    def keys(self) -> str:
        return self.along(self.places(self.count("there", 1)), 3)

    # predicates ---------------------------------------------------------------------------------------------------

    def compared(self, low: str, high: str, strict: bool) -> str:
        if self.one_of(True, False):
            return self.new(f"{'Less' if strict else 'LessOrEqual'}({low}, {high})")
        if self.one_of(True, False):
            return self.new(f"{'Greater' if strict else 'GreaterOrEqual'}({high}, {low})")
        opposite = self.new(f"{'LessOrEqual' if strict else 'Less'}({high}, {low})")
        return self.new(f"Not({opposite})")

    def causal(self, offset: int = 0):
        text = self.compared(self.keys(), self.queries(offset), False)
        return text, lambda b, q, k, data: k <= q + offset

    def window(self, width: int):
        lowest = self.new(f"Sub({self.queries()}, {self.number(width)})")
        return self.compared(lowest, self.keys(), True), lambda b, q, k, data: k > q - width

    def prefix(self, length: int):
        return self.compared(self.keys(), self.number(length), True), lambda b, q, k, data: k < length

    def element(self, table: str, at: str) -> str:
        """``table[b, at]``, as (batch, 1, queries or 1, keys or 1)."""
        rows = self.along(self.places(self.count(table, 0)), 0)
        whole = self.new(f"Add({rows}, {self.new(f'Mul({at}, {self.number(0)})')})")
        column = self.new(f"Add({at}, {self.new(f'Mul({rows}, {self.number(0)})')})")
        last = self.list(4)
        pair = [self.new(f"Unsqueeze({part}, {last})") for part in (whole, column)]
        return self.new(f"GatherND({table}, {self.new(f'Concat <axis = -1> ({pair[0]}, {pair[1]})')})")

    def padding(self):
        if self.one_of(True, False):
            text = self.new(f"Unsqueeze({self.new('Cast <to = 9> (there)')}, {self.list(1, 2)})")
        elif self.one_of(True, False):
            text = self.element(self.new("Cast <to = 9> (there)"), self.keys())
        else:
            text = self.new(f"Cast <to = 9> ({self.element('there', self.keys())})")
        return text, lambda b, q, k, data: data["there"][b, k] != 0

    def packed(self):
        own = self.element("segments", self.queries())
        return self.new(f"Equal({own}, {self.element('segments', self.keys())})"), (
            lambda b, q, k, data: data["segments"][b, q] == data["segments"][b, k]
        )

    def any(self, depth: int = 2):
        kind = self.random.integers(9 if depth else 6)
        if kind < 6:
            choices = [
                self.causal,
                lambda: self.causal(int(self.random.integers(-2, 3))),
                lambda: self.window(int(self.random.integers(1, 6))),
                lambda: self.prefix(int(self.random.integers(0, 4))),
                self.padding,
                self.packed,
            ]
            return choices[kind]()
        (a, fa), (b, fb) = self.any(depth - 1), self.any(depth - 1)
        if kind == 6:
            return self.new(f"Or({a}, {b})"), lambda *at: fa(*at) | fb(*at)
        if kind == 7:
            return self.new(f"And({a}, {b})"), lambda *at: fa(*at) & fb(*at)
        return self.new(f"And({a}, {self.new(f'Not({b})')})"), lambda *at: fa(*at) & ~fb(*at)

    def model(self, mask: str, shown: bool) -> Model:
        """The mask made whole, in an Attention, and as an output."""
        keys = "keys" if self.has_past else "seq"
        inputs = f"float[batch, seq, 8] x, int64[batch, {keys}] there, int64[batch, {keys}] segments"
        inputs += ", float[batch, past, 8] past" if self.has_past else ""
        self.lines.append("q = Unsqueeze(x, one)")
        self.lines.append("every = Concat <axis = 1> (past, x)" if self.has_past else "every = Identity(x)")
        self.lines.append("k = Unsqueeze(every, one)")
        self.lines.append(f"y = Attention(q, k, k, {mask})")
        if shown:
            self.lines.append(f"m = Cast <to = 7> ({mask})")
        body = "\n".join(f"[n{place}] {line}" for place, line in enumerate(self.lines))
        text = f"""<ir_version: 10, opset_import: ["": 24]> g ({inputs}) => (y{", m" if shown else ""})
            <int64[1] one = {{1}}> {{ {body} }}"""
        if self.has_past:
            text = text.replace("keys]", "past + seq]").replace("past + seq", '"past + seq"')
        model = Model(ir.from_onnx_text(text))
        shapes.infer(model.ir)
        return model


def data(batch: int, queries: int, past: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    arrays = {
        "x": random.normal(size=(batch, queries, 8)).astype(np.float32),
        "there": random.integers(0, 2, size=(batch, past + queries)),
        "segments": np.sort(random.integers(0, 3, size=(batch, past + queries)), axis=1),
        "past": random.normal(size=(batch, past, 8)).astype(np.float32),
    }
    arrays["there"][:, -1] = 1
    return arrays


def run(model: Model, arrays):
    proto = ir.to_proto(model.ir)
    for function in proto.functions:
        function.name += f":{function.overload}" if function.overload else ""
    for node in proto.graph.node:
        node.op_type += f":{node.overload}" if node.overload else ""
    names = [i.name for i in proto.graph.input]
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(proto).run(None, {name: arrays[name] for name in names})


def says(formula, arrays, queries: int, past: int) -> np.ndarray:
    batch = len(arrays["there"])
    b, q, k = np.meshgrid(np.arange(batch), np.arange(queries) + past, np.arange(past + queries), indexing="ij")
    return formula(b, q, k, arrays)[:, None]


def ops(model: Model) -> set[str]:
    return {node.op_type for node in model.graph}


@pytest.mark.parametrize("seed", range(80))
def test_a_lifted_mask_says_what_it_said(seed):
    draw = Draw(seed, has_past=seed % 3 == 0)
    mask, formula = draw.any(seed % 4)
    model = draw.model(mask, shown=seed % 2 == 0)
    lifted = model.clone()
    lift(lifted.ir)
    for batch, queries, past in SIZES:
        if past and not draw.has_past:
            continue
        arrays = data(batch, queries, past, seed)
        before, after = run(model, arrays), run(lifted, arrays)
        np.testing.assert_allclose(after[0], before[0], rtol=1e-5, atol=1e-6)
        if seed % 2 == 0:
            said = says(formula, arrays, queries, past)
            np.testing.assert_array_equal(np.broadcast_to(before[1], said.shape), said)
            np.testing.assert_array_equal(after[1], before[1])


@pytest.mark.parametrize("has_past", [False, True])
@pytest.mark.parametrize(
    ("parts", "becomes"),
    [
        (["causal"], {"is_causal": 1}),
        (["causal", "window"], {"window": 3}),
        (["causal", "padding"], {"window": 0}),
        (["padding", "window", "causal"], {"window": 3}),
        (["padding"], {}),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_what_models_have_is_recognised_however_it_is_computed(seed, parts, becomes, has_past):
    draw = Draw(seed, has_past)
    made = [draw.window(3) if part == "window" else getattr(draw, part)() for part in parts]
    mask = made[0][0]
    for text, _ in made[1:]:
        mask = draw.new(f"And({mask}, {text})")
    model = draw.model(mask, shown=False)
    lifted = model.clone()
    lift(lifted.ir)
    nothing_of_the_keys = has_past and "padding" not in parts
    found = ops(lifted)
    if nothing_of_the_keys:  # with a past, only the padding mask has as many as there are keys
        assert ("CausalMask" not in found and "Range" in found) or "CumSum" in found
    else:
        assert not found & {"Range", "CumSum", "GatherND", "And", "LessOrEqual", "Not", "Greater"}
        attributes = {name: a.value for node in lifted.graph for name, a in node.attributes.items()}
        assert becomes.items() <= attributes.items()
        assert ("CausalMask" in found) == ("window" in becomes)
    for batch, queries, past in SIZES:
        if past and not has_past:
            continue
        arrays = data(batch, queries, past, seed)
        np.testing.assert_allclose(run(lifted, arrays)[0], run(model, arrays)[0], rtol=1e-5, atol=1e-6)


def test_a_causal_mask_of_other_queries_than_keys_is_not_is_causal():
    """``is_causal`` counts queries and keys from the first: with a past it would be another mask."""
    draw = Draw(0, has_past=True)
    mask, _ = draw.causal()
    model = draw.model(mask, shown=False)
    lift(model.ir)
    assert not any("is_causal" in node.attributes for node in model.graph)


def test_a_mask_off_by_one_is_left_as_it_is():
    for offset in (-1, 1):
        draw = Draw(0, has_past=False)
        mask, _ = draw.causal(offset)
        model = draw.model(mask, shown=False)
        lift(model.ir)
        assert not any("is_causal" in node.attributes for node in model.graph) and "CausalMask" not in ops(model)


def test_a_query_that_is_counted_from_the_first_key_is_left_as_it_is_where_there_is_a_past():
    draw = Draw(0, has_past=True)
    draw.has_past = False  # the query's index is that of the first keys
    rows = draw.queries()
    draw.has_past = True
    mask = draw.new(f"And({draw.compared(draw.keys(), rows, False)}, {draw.padding()[0]})")
    model = draw.model(mask, shown=False)
    lifted = model.clone()
    lift(lifted.ir)
    assert "CausalMask" not in ops(lifted)
    arrays = data(2, 3, 2, 0)
    np.testing.assert_allclose(run(lifted, arrays)[0], run(model, arrays)[0], rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_said_of_the_query_or_of_the_next_key_is_no_padding_of_the_key(seed):
    for is_of_query in (True, False):
        draw = Draw(seed, has_past=False)
        there = draw.new("Cast <to = 9> (there)")
        at = draw.queries() if is_of_query else draw.new(f"Div({draw.keys()}, {draw.number(2)})")
        mask = draw.new(f"And({draw.causal()[0]}, {draw.element(there, at)})")
        model = draw.model(mask, shown=False)
        lifted = model.clone()
        lift(lifted.ir)
        arrays = data(2, 5, 0, seed)
        np.testing.assert_allclose(run(lifted, arrays)[0], run(model, arrays)[0], rtol=1e-6)
        assert "CausalMask" not in ops(lifted)
