"""Checks the strings in the JSON of an exported program before torch makes Python text of them.

Names become variables and parameters of functions, paths become attributes, symbolic sizes and guards are evaluated,
targets are looked up in torch. Each string is checked by what it is called in torch's schema; one that the schema of
this version does not have is refused.
"""

from __future__ import annotations

import ast
import json
import keyword
import re
from collections.abc import Callable
from typing import Any

from dlbridge.border import check_name
from dlbridge.errors import FileError

#: Functions that torch writes into symbolic sizes and guards.
_FUNCTIONS = frozenset(
    {"CeilDiv", "CeilToInt", "CleanDiv", "FloatPow", "FloatTrueDiv", "FloorDiv", "FloorToInt", "Identity", "IntTrueDiv"}
    | {"IsNonOverlappingAndDenseIndicator", "LShift", "Max", "Min", "Mod", "ModularIndexing", "PowByNatural"}
    | {"PythonMod", "RShift", "RoundDecimal", "RoundToInt", "ToFloat", "TruncToFloat", "TruncToInt", "Where"}
    | {f"OpaqueUnaryFn_{name}" for name in ("exp", "log", "log2", "sqrt", "sin", "cos", "tan", "tanh", "sinh", "cosh")}
    | {f"OpaqueUnaryFn_{name}" for name in ("asin", "acos", "atan", "asinh")}
    | {f"BitwiseFn_bitwise_{name}" for name in ("and", "or", "xor")}
    | {"Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Abs", "Piecewise", "And", "Or", "Not"}
    | {"Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "LessThan", "StrictLessThan", "GreaterThan"}
    | {"StrictGreaterThan", "Infinity", "NegativeInfinity", "IntInfinity", "NegativeIntInfinity"}
    | {"abs", "ceiling", "exp", "floor", "log", "max", "min", "sqrt", "int", "float"}
)
_METHODS = frozenset({"size", "stride", "storage_offset", "item", "dim", "numel"})
#: Functions of modules that torch writes into guards.
_OF_MODULES = re.compile(r"torch\._?sym_[a-z0-9_]+|math\.(trunc|floor|ceil|sqrt|isnan|isinf|exp|log2?)")
_NODES = (
    *(ast.Expression, ast.Load, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Tuple),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
#: A power with a larger exponent, and a shift by more bits, make numbers of any size.
_MAX_EXPONENT = 64
_MAX_NUMBER = 1 << 64
_MAX_EXPRESSION = 10_000

_TARGET = re.compile(
    r"torch\.ops(\.[A-Za-z_]\w*){2,3}|torch\._?sym_\w+|math\.\w+"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|not_|xor|getitem"
    r"|invert|lshift|rshift|truth)",
    re.ASCII,
)
#: Ops that read or write files, and namespaces of the compiler.
_FORBIDDEN = re.compile(r"torch\.ops\.(aten\.from_file|debugprims|inductor|profiler|_inductor_test)\b")


def check(tree: Any, key: str = "") -> None:
    """Check every string in a part of the JSON of a program.

    Args:
        tree: The part.
        key: What it is called in torch's schema.

    Raises:
        FileError: When a string is not what torch writes there.
    """
    if isinstance(tree, str):
        _check_string(key, tree)
    elif isinstance(tree, list):
        for item in tree:
            check(item, key)
    elif isinstance(tree, dict):
        if key == "metadata":
            _check_metadata(tree)
            return
        check_key = _KEYS.get(key, _field)
        for name, value in tree.items():
            check_key(name)
            check(value, name if check_key is _field else f"{key}.*")
        if tree.get("target") in ("_operator.pow", "_operator.lshift"):
            _check_exponent(tree.get("inputs"))


def _check_string(key: str, text: str) -> None:
    known = _STRINGS.get(key)
    if known is None:
        raise FileError(f"it has a string '{key}', which torch {_torch()} does not write")
    known(text)


def _torch() -> str:
    import torch

    return str(torch.__version__)


# --- what a string may be ---------------------------------------------------------------------------------------------


def _name(text: str) -> None:
    """The name of a value: a variable, or nothing."""
    if text and (not text.isidentifier() or not text.isascii() or keyword.iskeyword(text) or text.startswith("__")):
        raise FileError(f"the name {text[:60]!r} is no identifier")
    check_name(text)


def _dotted(text: str) -> None:
    if not re.fullmatch(r"[\w.<>]*", text):
        raise FileError(f"{text[:60]!r} is no dotted name")
    check_name(text.replace(".", "_"))


def _target(text: str) -> None:
    if not _TARGET.fullmatch(text) or "__" in text or _FORBIDDEN.match(text):
        raise FileError(f"{text[:60]!r} is no operation of a program that torch.export saved")


def _expression(text: str) -> None:
    """A symbolic size."""
    _arithmetic(text, guard=False)


def _guard(text: str) -> None:
    """A condition on the sizes and numbers of the inputs, ``L['x'].size()[0] % 2 == 0``."""
    _arithmetic(text, guard=True)


def _arithmetic(text: str, *, guard: bool) -> None:
    """Refuse text that would be evaluated and is not arithmetic, or could make unboundedly large numbers."""
    what = "guard" if guard else "size"
    try:
        tree = ast.parse(text if len(text) <= _MAX_EXPRESSION else "", mode="eval")
        fine = all(_is_arithmetic(node, guard) for node in ast.walk(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        fine = False
    if not fine or "\n" in text:
        raise FileError(f"the {what} {text[:60]!r} is no arithmetic")


def _is_arithmetic(node: ast.AST, guard: bool) -> bool:
    """Whether a syntax node is allowed in a size, or in a guard, where names of inputs are strings."""
    if _exponent(node) is not None and not _is_small_power(node):
        return False
    match node:
        case ast.Constant(value=str() as word):
            return re.fullmatch(r"[\w .\-+/]*", word) is not None
        case ast.Constant(value=int() as number):
            return number <= _MAX_NUMBER
        case ast.Constant(value=value):
            return value is None or isinstance(value, float)
        case ast.keyword(arg=str(), value=ast.Constant()):
            return True
        case ast.Name(id=name):
            return name.isascii() and not name.startswith("__")
        case ast.Attribute(attr=name):
            return guard and (name in _METHODS or _OF_MODULES.fullmatch(ast.unparse(node)) is not None)
        case ast.Subscript():
            return guard
        case ast.Call(func=ast.Name(id=name)):
            return name in _FUNCTIONS
        case ast.Call(func=ast.Attribute(), keywords=[]):
            return guard
        case _:
            return isinstance(node, _NODES)


def _exponent(node: ast.AST) -> ast.expr | None:
    """The exponent of a power, or the bits of a shift."""
    match node:
        case ast.BinOp(op=ast.Pow() | ast.LShift(), right=exponent):
            return exponent
        case ast.Call(func=ast.Name(id="Pow" | "PowByNatural" | "FloatPow" | "LShift"), args=[_, exponent]):
            return exponent
    return None


def _is_small_power(node: ast.AST) -> bool:
    """Whether a power has a small constant exponent and a base that contains no power."""
    exponent = _exponent(node)
    while isinstance(exponent, ast.UnaryOp) or (isinstance(exponent, ast.Call) and len(exponent.args) == 1):
        exponent = exponent.operand if isinstance(exponent, ast.UnaryOp) else exponent.args[0]
    number = exponent.value if isinstance(exponent, ast.Constant) else None
    if not isinstance(number, int | float) or number > _MAX_EXPONENT:
        return False
    return sum(_exponent(inner) is not None for inner in ast.walk(node)) == 1


def _check_exponent(inputs: Any) -> None:
    for item in inputs if isinstance(inputs, list) else ():
        number = item.get("arg", {}).get("as_int")
        if isinstance(number, int) and abs(number) > _MAX_EXPONENT:
            raise FileError(f"a power or shift of {number} is no arithmetic of sizes")


def _free(text: str) -> None:
    """Text that PyTorch only quotes."""


# --- trees of inputs and outputs --------------------------------------------------------------------------------------


def _inputs_tree(text: str) -> None:
    """The tree of the inputs: the keys of its second branch are the keywords of a function."""
    spec = _tree(text)
    keywords = spec["children_spec"][1] if len(spec["children_spec"]) > 1 else {"context": "null"}
    for word in json.loads(keywords["context"] or "null") or ():
        _name(str(word))


def _tree(text: str) -> Any:
    """A tree of containers. Torch imports the modules that enums and ``defaultdict`` name, so it has none of these."""
    version, spec = json.loads(text)
    if version != 1:
        raise FileError(f"the tree of inputs has the unknown version {version!r}")
    _check_tree(spec)
    return spec


def _check_tree(spec: Any) -> None:
    kind, context = spec["type"], spec["context"]
    if kind is not None:
        _dotted(kind)
        if kind.startswith("collections.defaultdict") or "__enum__" in str(context):
            raise FileError(f"the tree of inputs has a {kind} that names a Python object")
    if context is not None:
        _check_context(json.loads(context))
    for child in spec["children_spec"]:
        _check_tree(child)


def _check_context(context: Any) -> None:
    if isinstance(context, str):
        check_name(context)
    elif isinstance(context, list):
        for item in context:
            _check_context(item)
    elif isinstance(context, dict):
        for key, value in context.items():
            check_name(key)
            _check_context(value)


# --- torch's schema ---------------------------------------------------------------------------------------------------


def _field(text: str) -> None:
    if not re.fullmatch(r"[a-z_]*", text):
        raise FileError(f"it has a field {text[:60]!r}, which torch {_torch()} does not write")


def _check_metadata(tree: dict[str, Any]) -> None:
    for key, text in tree.items():
        _dotted(key)
        if not isinstance(text, str):
            raise FileError(f"its metadata '{key}' are no text")
        if key == "source_fn_stack":
            for item in text.split(";"):
                _dotted(item.rpartition(",")[2])


#: Mapping in PyTorch's schema -> what its keys are.
_KEYS: dict[str, Callable[[str], None]] = {
    **dict.fromkeys(("tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values"), _name),
    **dict.fromkeys(("custom_obj_values", "as_string_to_argument", "opset_version"), _name),
    "range_constraints": _expression,
    "treespec_namedtuple_fields": _dotted,
}
#: String field in PyTorch's schema -> what it is.
_STRINGS: dict[str, Callable[[str], None]] = {
    **dict.fromkeys(("name", "as_name", "user_input_name", "forward_arg_names", "field_names", "verifiers"), _name),
    **dict.fromkeys(("parameter_name", "buffer_name", "tensor_constant_name", "custom_obj_name", "fqn"), check_name),
    **dict.fromkeys(("class_fqn", "torch_version"), lambda text: _dotted(text.replace("+", "."))),
    **dict.fromkeys(("target", "as_operator"), _target),
    **dict.fromkeys(("as_string", "as_strings"), _free),
    "type": _name,
    "expr_str": _expression,
    "guards_code": _guard,
    "in_spec": _inputs_tree,
    "out_spec": _tree,
}
