"""``downgrade``: rewrites a model for an older opset.

Each node, in the form of ``IR_OPSET``, becomes the first of these that can be had:

1. what its rule (in ``layers`` and ``forms``) makes of it, where the form or the meaning of the op has changed;
2. itself, when the older schema can say it (attributes at their defaults are left out, missing inputs dropped);
3. the nodes of the function body that the standard gives the op, which are lowered in turn;
4. an error that names the op and the lowest opset that has it.

Replacing (1, 3) ends before the first node is brought into its older form, so types can be inferred at every step.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import onnx.defs
import onnx_ir as ir

from dlbridge.errors import DlbridgeError, UnsupportedOpError
from dlbridge.ops.keys import op_key
from dlbridge.ops.traits import IR_OPSET
from dlbridge.passes import shapes
from dlbridge.passes.downgrade import forms, layers  # noqa: F401  (they register their rules)
from dlbridge.passes.downgrade.site import ADAPT, REPLACE, VALUES, CannotDowngradeError, Old
from dlbridge.passes.fold import fold
from dlbridge.passes.inline import expand
from dlbridge.passes.matching import is_read
from dlbridge.passes.rewriter import Rewriter

#: The oldest opset that is written.
OLDEST = 13


def downgrade(model: ir.Model, opset: int) -> bool:
    """Rewrite a model for ``opset``, in place.

    Args:
        model: A model in ops of the standard alone, at ``IR_OPSET``, whose types are inferred.
        opset: 13 to ``IR_OPSET``.

    Returns:
        Whether a node was replaced by others.

    Raises:
        DlbridgeError: When there is no such opset.
        UnsupportedOpError: When ops cannot be said at that opset; all are named, with the lowest opset that has them.
    """
    if not OLDEST <= opset <= IR_OPSET:
        raise DlbridgeError(f"opset {opset} cannot be written", hint=f"choose one from {OLDEST} to {IR_OPSET}")
    if opset < IR_OPSET and model.graph.opset_imports[""] == opset:
        return False
    problems: list[str] = []
    done: set[ir.Node] = set()
    changed = _replace_all(model, opset, done, problems)
    while changed:
        # bodies and rules compute axes and shapes of constants; older forms need their numbers
        fold(model)
        shapes.infer(model)
        if not _replace_all(model, opset, done, problems):
            break
    rewriter = Rewriter(model.graph)
    for node in _standard_nodes(model):
        with _recorded(node, opset, problems):
            _adapt(node, rewriter, opset)
    if problems:
        raise UnsupportedOpError(
            f"{len(problems)} op(s) cannot be said at opset {opset}:\n  " + "\n  ".join(problems),
            where=model.graph.name,
            hint="export at a newer opset",
        )
    model.graph.opset_imports[""] = opset
    return changed


def _standard_nodes(model: ir.Model) -> list[ir.Node]:
    return [n for n in model.graph.all_nodes() if n.domain == ""]


@contextmanager
def _recorded(node: ir.Node, opset: int, problems: list[str]) -> Iterator[None]:
    try:
        yield
    except CannotDowngradeError as refusal:
        lowest = refusal.lowest or _lowest(node, opset)
        problems.append(f"{node.name} ({node.op_type}): {refusal}; the lowest opset that has it is {lowest}")


def _replace_all(model: ir.Model, opset: int, done: set[ir.Node], problems: list[str]) -> bool:
    """Infer types and try each node that is not ``done``; whether one was replaced by others."""
    replaced, rewriter = False, Rewriter(model.graph)
    for node in _standard_nodes(model):
        if node in done:
            continue
        done.add(node)
        with _recorded(node, opset, problems):
            replaced |= _replace(node, rewriter, opset)
    return replaced


def _replace(node: ir.Node, rewriter: Rewriter, opset: int) -> bool:
    """Replace a node if a rule or its function body says by what; whether it was."""
    for name, lowest in VALUES.get(op_key(node), {}).items():
        attribute = node.attributes.get(name)
        needed = 0 if attribute is None else lowest.get(attribute.value, 0)
        if attribute is not None and needed > opset:
            raise CannotDowngradeError(f"{name}={attribute.value!r} is not known", needed)
    for below, rule in REPLACE.get(op_key(node), ()):
        new = rule(Old(node, rewriter, opset)) if opset < below else None
        if new is not None:
            rewriter.replace_node(node, new if isinstance(new, tuple) else (new,))
            return True
    old = schema(op_key(node), opset)
    if old is not None and any(opset < below for below, _ in ADAPT.get(op_key(node), ())):
        return False
    trouble = _trouble(node, old)
    if trouble is None:
        return False
    body = _body(node)
    if body is None:
        raise CannotDowngradeError(trouble)
    expand(node, body, rewriter)
    return True


def _adapt(node: ir.Node, rewriter: Rewriter, opset: int) -> None:
    """Bring a node that stays into its older form, in place."""
    for below, rule in ADAPT.get(op_key(node), ()):
        if opset < below:
            rule(Old(node, rewriter, opset))
    old = schema(op_key(node), opset)
    trouble = _trouble(node, old)
    if trouble is not None:
        raise CannotDowngradeError(trouble)
    assert old is not None
    _fit(node, old)


@functools.cache
def schema(op_type: str, opset: int) -> onnx.defs.OpSchema | None:
    """The schema of a standard op as an opset has it, or None."""
    try:
        return onnx.defs.get_schema(op_type, opset)
    except onnx.defs.SchemaError:
        return None


def _lowest(node: ir.Node, opset: int) -> int:
    candidates = ((v, schema(op_key(node), v)) for v in range(opset + 1, IR_OPSET))
    return next((v for v, s in candidates if _trouble(node, s) is None), IR_OPSET)


# --- the same op by an older schema -------------------------------------------------------------------------------


def _default(attribute: onnx.defs.OpSchema.Attribute) -> object:
    proto = attribute.default_value
    return onnx.helper.get_attribute_value(proto) if proto.name else None


def _is_default(attribute: ir.Attr, new: onnx.defs.OpSchema) -> bool:
    default = _default(new.attributes[attribute.name]) if attribute.name in new.attributes else None
    if default is None:  # dilations and the like, 1 on every axis when left out
        return attribute.name == "dilations" and set(attribute.value) <= {1}
    value = attribute.value
    return value == (default.decode() if isinstance(default, bytes) else default)


def _trouble(node: ir.Node, old: onnx.defs.OpSchema | None) -> str | None:
    """Why the older schema cannot express a node; None if it can."""
    if old is None:
        return "there is no such op"
    new = schema(op_key(node), IR_OPSET)
    assert new is not None
    for attribute in node.attributes.values():
        if attribute.name not in old.attributes and not _is_default(attribute, new):
            return f"attribute {attribute.name} is not known"
    given = [i for i, v in enumerate(node.inputs) if v is not None]
    if given and given[-1] >= old.max_input:
        return f"input {new.inputs[given[-1]].name} is not known"
    if sum(is_read(v) for v in node.outputs) > old.max_output:
        return "it has fewer outputs there"
    return _type_trouble(node, old)


def _type_trouble(node: ir.Node, old: onnx.defs.OpSchema) -> str | None:
    allowed = {c.type_param_str: c.allowed_type_strs for c in old.type_constraints}
    for values, formals in ((node.inputs, old.inputs), (node.outputs, old.outputs)):
        for index, value in enumerate(values):
            if value is None or not isinstance(value.type, ir.TensorType):
                continue
            formal = formals[min(index, len(formals) - 1)]
            types = allowed.get(formal.type_str, [formal.type_str])
            if f"tensor({value.type.dtype.name.lower()})" not in types:
                return f"it does not take {value.type.dtype}"
    return None


def _fit(node: ir.Node, old: onnx.defs.OpSchema) -> None:
    """Drop attributes and inputs that the older schema lacks (they have no effect), and state changed defaults."""
    new = schema(op_key(node), IR_OPSET)
    assert new is not None
    for name in list(node.attributes):
        if name not in old.attributes:
            del node.attributes[name]
    for name, attribute in new.attributes.items():
        if name in node.attributes or name not in old.attributes:
            continue
        if _default(attribute) != _default(old.attributes[name]) and _default(attribute) is not None:
            node.attributes[name] = ir.from_proto(attribute.default_value)
    if len(node.inputs) > old.max_input:
        node.resize_inputs(old.max_input)


# --- the function body of the standard ------------------------------------------------------------------------------


def _body(node: ir.Node) -> ir.Function | None:
    """The function body of an op in older ops, by the standard; None if the standard has none."""
    new = schema(op_key(node), IR_OPSET)
    if new is None:
        return None
    if new.has_context_dependent_function:
        version = max(new.context_dependent_function_opset_versions)
        types = [_type_proto(v).SerializeToString() for v in node.inputs]
        proto = ir.serde.serialize_node(node)
        text = new.get_context_dependent_function_with_opset_version(version, proto.SerializeToString(), types)
        body = _function(onnx.FunctionProto.FromString(text))
    elif new.has_function:
        body = ir.from_proto(new.function_body)
        for name, attribute in new.attributes.items():
            if _default(attribute) is not None:
                body.attributes[name] = ir.from_proto(attribute.default_value)
    else:
        return None
    # a body that needs types which are not known is empty
    return None if len(body) == 0 or any(op_key(n) == op_key(node) for n in body) else body


def _function(proto: onnx.FunctionProto) -> ir.Function:
    """A body that was made for one node: outputs that the node does not have are not computed in it."""
    made = {name for n in proto.node for name in n.output}
    for name in proto.output:
        if name not in made:
            proto.node.add(op_type="Constant", output=[name]).attribute.add(name="value_int", type="INT", i=0)
    return ir.from_proto(proto)


def _type_proto(value: ir.Value | None) -> onnx.TypeProto:
    proto = onnx.TypeProto()
    if value is not None:
        info = ir.serde.serialize_value(value)
        proto.CopyFrom(info.type)
    return proto
