"""An op is its domain and its name: ``com.acme::Sigmoid`` is never taken for Sigmoid, by no reader, pass or writer."""

import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from dlbridge import frameworks
from dlbridge.errors import FileError, UnsupportedOpError
from dlbridge.model import Model
from dlbridge.ops import extension, stand_ins
from dlbridge.ops.keys import is_op, op_key
from dlbridge.passes import fold, layout, precision, shapes
from dlbridge.passes.downgrade import downgrade
from dlbridge.passes.lift import lift
from dlbridge.passes.prepare import prepare
from dlbridge.verification.compare import relative_error
from tests.helpers.random_graphs import BINARY, UNARY, Graph, right_answers

ACME = "com.acme"
#: Patterns that lift looks for, of three to eight ops; any one of these may be somebody else's.
PATTERNS = {
    "swish": "agraph (float[n, 4] x) => (float[n, 4] y) { s = Sigmoid (x) y = Mul (x, s) }",
    "mish": "agraph (float[n, 4] x) => (float[n, 4] y) { a = Softplus (x) b = Tanh (a) y = Mul (x, b) }",
    "gelu": """agraph (float[n, 4] x) => (float[n, 4] y) <float r = {1.4142135}, float one = {1}, float half = {0.5}>
        { a = Div (x, r) b = Erf (a) c = Add (b, one) d = Mul (x, c) y = Mul (d, half) }""",
    "hard_swish": """agraph (float[n, 4] x) => (float[n, 4] y)
        { s = HardSigmoid <alpha = 0.16666667> (x) y = Mul (x, s) }""",
    "layer": """agraph (float[n, 2] x) => (float[n, 2] y) <float[2, 2] w = {1, 2, 3, 4}, float[2] b = {1, 2}>
        { y = dlbridge.Linear (x, w, b) }""",
    "linear": """agraph (float[n, 2] x) => (float[n, 2] y) <float[2, 2] w = {1, 2, 3, 4}, float[2] b = {1, 2}>
        { t = Transpose <perm = [1, 0]> (w) p = MatMul (x, t) y = Add (p, b) }""",
    "gemm": """agraph (float[n, 2] x) => (float[n, 2] y) <float[2, 2] w = {1, 2, 3, 4}, float[2] b = {1, 2}>
        { y = Gemm <transB = 1> (x, w, b) }""",
    "norm": """agraph (float[n, 2] x) => (float[n, 2] y)
        <int64[1] axes = {-1}, float e = {0.00001}, float two = {2}, float[2] w = {1, 2}, float[2] b = {1, 2}>
        { m = ReduceMean (x, axes) d = Sub (x, m) q = Pow (d, two) v = ReduceMean (q, axes) z = Add (v, e)
          s = Sqrt (z) h = Div (d, s) g = Mul (h, w) y = Add (g, b) }""",
    "conv": """agraph (float[n, 1, 4, 4] x) => (float[n, 1, 4, 4] y) <float[1, 1, 1, 1] w = {2}, float[1] b = {1}>
        { c = Conv (x, w, b) r = Relu (c) p = MaxPool <kernel_shape = [1, 1]> (r) y = Dropout (p) }""",
    "pool": """agraph (float[n, 2, 4, 4] x) => (float[n, 2] y) <int64[2] axes = {2, 3}>
        { p = GlobalAveragePool (x) y = Flatten (p) }""",
    "reshapes": """agraph (float[n, 4] x) => (float[n, 2, 2] y) <int64[3] s = {0, 2, 2}, int64[2] t = {0, 4}>
        { a = Reshape (x, s) b = Reshape (a, t) c = Identity (b) d = Transpose <perm = [1, 0]> (c)
          e = Transpose <perm = [1, 0]> (d) y = Reshape (e, s) }""",
    "casts": """agraph (float[n, 4] x) => (float[n, 4] y) <float like = {1}>
        { a = Cast <to = 1> (x) b = CastLike (a, like) c = Max (b) y = Concat <axis = 0> (c) }""",
    "shapes": """agraph (float[n, 4] x) => (int64[1] y) <int64 one = {1}>
        { s = Shape (x) g = Gather <axis = 0> (s, one) z = Size (x) w = Add (g, z) y = Expand (w, axes)
        } """.replace("axes", "one_long").replace("int64 one =", "int64[1] one_long = {1}, int64 one ="),
    "slices": """agraph (float[n, 4] x) => (float[n, 1] y) <int64[1] i = {1}, int64[1] j = {3}, int64[1] o = {1}>
        { a = Slice (x, i, j, o) y = Slice (a, i, j, o) }""",
    "softmax": "agraph (float[n, 4] x) => (float[n, 4] y) { s = Softmax <axis = -1> (x) y = Log (s) }",
}


def parsed(text: str) -> onnx.ModelProto:
    """The pattern as a file that says the types of all values, as exporters do."""
    graph = onnx.parser.parse_graph(text)
    imports = [helper.make_opsetid(*domain) for domain in (("", 22), ("dlbridge", 1), (ACME, 1))]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return onnx.shape_inference.infer_shapes(proto)


def graphs(random: int = 20):
    for name, text in PATTERNS.items():
        yield name, parsed(text)
    for seed in range(random):
        proto = Graph(seed).build()
        proto.opset_import.append(helper.make_opsetid(ACME, 1))
        yield f"random {seed}", onnx.shape_inference.infer_shapes(proto)


def foreign(proto: onnx.ModelProto):
    """The same file with each of its nodes in turn in another domain, and that node's op type."""
    read = _read_for_numbers(proto.graph)
    for index, node in enumerate(proto.graph.node):
        if read.isdisjoint(node.output):
            continue
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        copy.graph.node[index].domain = ACME
        yield node.op_type, copy


def _read_for_numbers(graph: onnx.GraphProto) -> set[str]:
    """The values that the outputs are computed from, by their numbers and not by their sizes alone."""
    read = {output.name for output in graph.output}
    for node in reversed(graph.node):
        if not read.isdisjoint(node.output) and node.op_type not in ("Shape", "Size"):
            read |= set(node.input[:1] if node.op_type in ("Reshape", "Expand") else node.input)
    return read


def test_names_of_our_ops_are_none_of_the_standard():
    assert not {s.name for s in onnx.defs.get_all_schemas() if s.domain == ""} & set(extension.EXTENSION_OPS)


def test_keys_tell_domains_apart():
    for domain in ("", "ai.onnx"):
        assert op_key(onnx.NodeProto(op_type="Sigmoid", domain=domain)) == "Sigmoid"
    assert op_key(onnx.NodeProto(op_type="Linear", domain="dlbridge")) == "Linear"
    for domain in (ACME, "dlbridge", "dlbridge.missing", "ai.onnx.ml", "dlbridge.channels_last"):
        node = onnx.NodeProto(op_type="Sigmoid", domain=domain)
        assert op_key(node) == f"{domain}::Sigmoid"
        assert not is_op(node, "Sigmoid")


def test_the_reader_refuses_an_op_of_another_domain_and_names_it():
    for name, proto in graphs():
        for op, changed in foreign(proto):
            with pytest.raises(UnsupportedOpError, match=f"op {op} of the domain {ACME}"):
                frameworks.get("onnx").read(changed)
                raise AssertionError(f"{name}: {op} was read")


def test_a_model_that_is_read_in_part_keeps_the_op_for_a_person_to_fill_in():
    for name, proto in graphs(random=0):
        for op, changed in foreign(proto):
            model = frameworks.get("onnx").read(changed, partial=True)
            left = [node.op_type for node in model.graph.all_nodes() if node.domain == stand_ins.DOMAIN]
            assert left == [op], (name, op)
            source = frameworks.get("pytorch").write(model, partial=True)
            assert len(source.stand_ins) == 1, (name, op)


PASSES = {
    "shapes": lambda model: shapes.infer_lenient(model.ir),
    "fold": lambda model: fold.fold(model.ir),
    "lift": lambda model: lift(model.ir),
    "prepare": prepare,
    "float64": lambda model: precision.convert(model, "float64"),
    "float16": lambda model: precision.convert(model, "float16"),
    "channels_last": lambda model: layout.channels_last(model.ir),
    "there and back": lambda model: (layout.channels_last(model.ir), layout.to_standard(model.ir)),
    "opset 18": lambda model: downgrade(model.ir, 18),
}


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_leaves_an_op_of_another_domain_as_it_is(name):
    apply = PASSES[name]
    for graph, proto in graphs():
        for op, changed in foreign(proto):
            model = Model(ir.serde.deserialize_model(changed))
            before = _signature(model.graph)
            try:
                result = apply(model)
            except UnsupportedOpError as error:  # a clear refusal, of this op or of what has no word in that opset
                assert op in str(error) or name == "opset 18"
                continue
            after = result if isinstance(result, Model) else model
            assert _signature(after.graph) == before, (graph, op)


def _signature(graph: ir.Graph) -> list:
    """The ops of the other domain: name, number of inputs, attributes."""
    found = [n for n in graph.all_nodes() if n.domain == ACME]
    return [(n.op_type, len(n.inputs), {k: a.type for k, a in n.attributes.items()}) for n in found]


@pytest.mark.parametrize("name", ["pytorch", "keras"])
def test_a_writer_refuses_an_op_of_another_domain(name):
    framework = frameworks.get(name)
    for graph, proto in graphs():
        for op, changed in foreign(proto):
            model = Model(ir.serde.deserialize_model(changed))
            with pytest.raises(UnsupportedOpError, match=rf"{ACME}[.:]+{op}"):
                framework.write(model)
                raise AssertionError(f"{graph}: {op} was written")


#: What a function of somebody else's with the name of a standard op may mean: anything of the same type and shape.
UNLIKE = {1: "{ a = Abs (x) b = Add (a, x) y = Neg (b) }", 2: "{ a = Sub (x, x1) b = Abs (a) y = Sub (b, x1) }"}
SAME_SHAPE = {**dict.fromkeys([*UNARY, "Softmax", "Dropout"], 1), **dict.fromkeys(BINARY, 2)}


def with_function(op: str, changed: onnx.ModelProto, domain: str) -> onnx.ModelProto:
    """The file with a function for its foreign node, so that it has a meaning of its own."""
    parameters = ", ".join(["x", "x1"][: SAME_SHAPE[op]])
    text = f'<domain: "{domain}", opset_import: ["": 22]> {op} ({parameters}) => (y) {UNLIKE[SAME_SHAPE[op]]}'
    changed.functions.append(onnx.parser.parse_function(text))
    for node in changed.graph.node:
        if node.domain == ACME:
            node.domain = domain
            del node.attribute[:]
    changed.opset_import[-1].domain = domain
    return changed


@pytest.mark.parametrize("domain", [ACME, "dlbridge.channels_last", "dlbridge"])
def test_a_function_of_the_file_is_what_it_says(domain):
    checked = 0
    for seed in range(16):
        graph = Graph(seed)
        proto = graph.build()
        proto.opset_import.append(helper.make_opsetid(ACME, 1))
        arrays = graph.arrays(2)
        for op, changed in foreign(proto):
            if op not in SAME_SHAPE:
                continue
            changed = with_function(op, changed, domain)
            (wanted,) = right_answers(changed, [arrays])
            checked += 1
            try:
                model = frameworks.get("onnx").read(changed)
            except FileError as error:  # no file may define what is ours
                assert domain.startswith("dlbridge"), error
                continue
            names = dict(zip([v.name for v in model.outputs], wanted, strict=True))
            framework = frameworks.get("onnx")
            for key, value in framework.run(framework.load(framework.write(model)), arrays).items():
                assert relative_error(value, wanted[names[key]]) <= 1e-4, (seed, op)
    assert checked > 10
