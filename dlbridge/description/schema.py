"""The types of a description, its JSON Schema, and errors that say the line.

What an op takes (its attributes, its inputs) is not typed here: the standard's op schemas say it. The JSON Schema is
made of both.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NoReturn, get_args

import onnx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from dlbridge.border import check_name
from dlbridge.description import layers, signature, values
from dlbridge.description.document import Document, Path_
from dlbridge.errors import DlbridgeError, suggest
from dlbridge.ops import attributes, extension, initializers

#: Place in the repository where the JSON Schema is kept.
SCHEMA_FILE = "schemas/description.schema.json"


def _is_name(text: str) -> str:
    try:
        check_name(text)
    except DlbridgeError as error:
        raise ValueError(error.message) from None
    return text


Name = Annotated[str, Field(pattern=r"^[^\s$][^\s]*$"), AfterValidator(_is_name)]
#: The name of an input or output, by which code calls it: words, with dots between them.
Port = Annotated[str, Field(pattern=r"^\w+([.]\w+)*$")]
#: The name of a model, and so of files that are made of it.
ModelName = Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]
#: ``$name`` or ``$(2 * name)`` inside a block: the value of a parameter.
Parameter = Annotated[str, Field(pattern=r"^\$")]
Size = Annotated[int, Field(ge=0)] | str | None
Numbers = bool | int | float | str | list[Any]
InitializerSpec = str | dict[str, Any]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class ValueType(_Strict):
    """dtype and shape of a tensor. A size is a number, a name (``batch``) or null when nothing is known."""

    dtype: str = "float32"
    shape: list[Size] | None = None
    metadata: dict[str, str] = {}


class InitializerEntry(_Strict):
    """A tensor that belongs to the model: a weight, a free parameter, or a constant.

    Its numbers are ``value`` (a number or a flat list), or are made by ``init``, or come from the weights file.
    """

    dtype: str | None = None
    shape: list[Annotated[int, Field(ge=0)] | Parameter] | None = None
    kind: Literal["parameter", "frozen", "buffer", "constant"] | None = None
    init: InitializerSpec | None = None
    value: Numbers | None = None
    metadata: dict[str, str] = {}


class Node(BaseModel):
    """An op, or an instance of a block. Attributes and further inputs are given by their ONNX names beside these keys.

    A node reads the node above it unless ``from`` says otherwise. ``lstm.Y_h`` names an output of a node, ``fc.weight``
    a weight of it.
    """

    model_config = ConfigDict(extra="allow", strict=True, populate_by_name=True)

    op: Name | None = None
    block: Name | None = None
    name: Name | None = None
    domain: str = ""
    from_: str | bool | int | float | list[str | bool | int | float | None] | None = Field(None, alias="from")
    repeat: Annotated[int, Field(ge=1)] | Parameter | None = None
    bias: bool | Parameter | None = None
    frozen: bool | Parameter = False
    weights: Name | None = None
    initializers: dict[str, InitializerSpec] = {}
    outputs: list[str | None] | None = None
    # In the canonical form only:
    inputs: list[str | None] | None = None
    attributes: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    overload: str = ""
    doc: str | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Node:
        if (self.op is None) == (self.block is None):
            raise ValueError("a node has either 'op' or 'block'")
        if self.repeat is not None and self.block is None:
            raise ValueError("'repeat' is for blocks")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """The further keys: attributes, inputs by name, sizes; for a block, its parameters."""
        return self.model_extra or {}


def keys_of_a_node() -> list[str]:
    """The keys of a node that are the same for all ops; a parameter of a block cannot be called so."""
    return [f.alias or name for name, f in Node.model_fields.items()]


class Block(_Strict):
    """A part of a model that is used by name, with parameters (null: must be given)."""

    parameters: dict[Name, Any] = {}
    inputs: list[Name] = ["input"]
    initializers: dict[Name, InitializerEntry] = {}
    nodes: Annotated[list[Node], Field(min_length=1)]
    outputs: list[str] | dict[Name, str] | None = None

    @model_validator(mode="after")
    def _parameters_have_names_of_their_own(self) -> Block:
        taken = set(self.parameters) & (set(keys_of_a_node()) - {"bias", "frozen"})
        if taken:
            raise ValueError(f"a parameter cannot be called '{min(taken)}', which is a key of every node")
        return self


class Graph(_Strict):
    """Nodes with inputs and outputs: a model, or the body of an If, Loop or Scan."""

    name: str = ""
    inputs: dict[Port, ValueType] = {}
    nodes: list[Node] = []
    outputs: list[str] | dict[Port, str] = []
    initializers: dict[Name, InitializerEntry] = {}
    values: dict[str, ValueType] = {}
    metadata: dict[str, str] = {}


class Description(Graph):
    """A model as YAML or JSON."""

    dlbridge: Literal[1]
    name: ModelName
    inputs: dict[Port, ValueType]
    outputs: Annotated[list[str], Field(min_length=1)] | Annotated[dict[Port, str], Field(min_length=1)]
    nodes: list[Node]
    blocks: dict[Name, Block] = {}
    seed: int | None = Field(
        None, ge=0, lt=2**63, description="Seed of the initial weights; default: that of 'training', or 0."
    )
    weights: str | None = Field(None, description="Weights file (safetensors), beside this file.")
    classes: dict[str, str] = Field({}, description="Canonical form: module path -> class name.")
    opsets: dict[str, int] = Field({}, description="Canonical form: versions of further op domains.")
    model_metadata: dict[str, str] = Field({}, description="Canonical form: metadata of the file.")
    training: dict[str, Any] | None = None


# --- errors -----------------------------------------------------------------------------------------------------------


def check(document: Document, path: Path_ = (), of: type[BaseModel] = Description) -> Any:
    """A document (or the part of it at ``path``) as its type.

    Raises:
        DescriptionError: When a key is unknown or missing, or of another type; the first such mistake, with its line.
    """
    data = document.data
    for part in path:
        data = data[part]
    return check_data(document, path, data, of)


def check_data(document: Document, path: Path_, data: Any, of: type[BaseModel]) -> Any:
    """As :func:`check`, for data derived from those at ``path``."""
    try:
        return of.model_validate(data)
    except ValidationError as error:
        _explain(document, path, data, of, error)


def _explain(document: Document, path: Path_, data: Any, of: type[BaseModel], error: ValidationError) -> NoReturn:
    """Raise the first mistake that pydantic found, in the terms of descriptions."""
    problems = error.errors(include_url=False)
    # Of the branches of a union, the one that got furthest says most.
    problem = max(problems, key=lambda p: len(_real(data, p["loc"])))
    loc = _real(data, problem["loc"])
    key, context = (loc[-1] if loc else None), problem.get("ctx", {})
    message, hint = _lower(problem["msg"].removeprefix("Value error, ")), None
    match problem["type"]:
        case "extra_forbidden":
            known = _keys(of, problem["loc"][:-1])
            message, hint = f"unknown key '{key}'", suggest(str(key), known) or f"known: {', '.join(known)}"
        case "missing" | "union_tag_not_found":
            missing = str(problem["loc"][-1]) if problem["type"] == "missing" else context["discriminator"].strip("'")
            message, hint = f"the key '{missing}' is missing", _EXAMPLES.get(missing)
        case "literal_error":
            message = f"{_place(loc)} is {problem['input']!r}, not {context['expected']}"
        case "union_tag_invalid":
            tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
            is_item = isinstance(key, int)
            message = f"{_place(loc)} is '{context['tag']}'" if is_item else f"unknown {key} '{context['tag']}'"
            hint = suggest(context["tag"], tags) or f"known: {', '.join(tags)}"
        case "value_error":
            pass
        case _ if key is not None:
            here = [_wanted(p) for p in problems if _real(data, p["loc"]) == loc]
            message = f"{_place(loc)} is {_wording(problem['input'])}: {' or '.join(dict.fromkeys(here))}"
            hint = _EXAMPLES.get(key)
    document.fail((*path, *loc), message, hint)


def _place(loc: Path_) -> str:
    return f"item {loc[-1]} of '{loc[-2]}'" if isinstance(loc[-1], int) and len(loc) > 1 else f"'{loc[-1]}'"


_EXAMPLES = {
    "dlbridge": "a description begins with 'dlbridge: 1'",
    "inputs": "for example: inputs: {image: {dtype: float32, shape: [batch, 1, 8, 8]}}",
    "outputs": "for example: outputs: {logits: fc}",
    "nodes": "for example: nodes: [{op: Linear, features: 10}]",
    "name": "for example: name: digits",
    "loss": "for example: loss: {op: MeanSquaredError}",
    "optimizer": "for example: optimizer: {kind: adam}",
    "schedule": "for example: schedule: {kind: cosine}",
    "clip": "for example: clip: {norm: 1.0}",
    "early_stopping": "for example: early_stopping: {patience: 3}",
    "metrics": "for example: metrics: [accuracy, f1]",
    "class_weights": "for example: class_weights: [1.0, 2.5], one for each class",
}


def _wanted(problem: Any) -> str:
    """What pydantic wants in place of an input, without its names of types."""
    match problem["type"]:
        case "model_attributes_type" | "model_type" | "dict_type":
            return "input should be a mapping"
        case "tuple_type" | "list_type":
            return "input should be a list"
    return _lower(problem["msg"])


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _wording(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"the {type(value).__name__} {value!r}" if value is not None else "empty"


def _real(data: Any, loc: tuple[Any, ...]) -> Path_:
    """The part of pydantic's place that is in the data (it puts the branches of unions in between)."""
    path: list[Any] = []
    for part in loc:
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and isinstance(part, int)):
            path.append(part)
            data = data[part]
    return tuple(path)


def _keys(of: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """The keys that are known at pydantic's place ``loc``."""
    types = [of]
    for part in loc:
        fields = [f for t in types for name, f in t.model_fields.items() if part in (name, f.alias)]
        tagged = [t for t in types if any(part in get_args(f.annotation) for f in t.model_fields.values())]
        types = [t for f in fields for t in _models(f.annotation)] or tagged or types
    return list(dict.fromkeys(f.alias or name for t in types for name, f in t.model_fields.items()))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic types within an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


# --- JSON Schema ------------------------------------------------------------------------------------------------------


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of descriptions, with the attributes of every op, for editors and validators."""
    schema = Description.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "dlbridge description"
    definitions = schema["$defs"]
    kinds = sorted([*initializers.REGISTRY, *initializers.ALIASES])
    definitions["Initializer"] = {
        "anyOf": [
            {"enum": kinds},
            {"type": "object", "required": ["kind"], "properties": {"kind": {"enum": kinds}}},
            {"type": "string", "pattern": r"^\$"},
        ]
    }
    definitions["DType"] = {"anyOf": [{"enum": list(values.DTYPES)}, {"type": "string"}]}
    definitions.update(_setting_types())
    for name in ("ValueType", "InitializerEntry"):
        definitions[name]["properties"]["dtype"] = {"$ref": "#/$defs/DType"}
    node = definitions["Node"]
    node["properties"]["initializers"] = {
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/Initializer"},
    }
    node["properties"]["op"] = {"anyOf": [{"enum": signature.ops()}, {"type": "string"}]}
    del node["additionalProperties"]
    node["oneOf"] = [{"required": ["op"]}, {"required": ["block"]}]
    free = {
        "if": {"anyOf": [{"required": ["domain"]}, {"required": ["block"]}]},
        "then": {"additionalProperties": True},
    }
    node["allOf"] = [free, *(_op_schema(op) for op in signature.ops())]
    node["unevaluatedProperties"] = False
    training = _training_schema()
    definitions.update(training.pop("$defs"))
    definitions["Training"] = training
    schema["properties"]["training"] = {"$ref": "#/$defs/Training"}
    return schema


def _setting_types() -> dict[str, Any]:
    parameter = {"type": "string", "pattern": r"^\$"}
    one = {"int": {"type": "integer"}, "float": {"type": "number"}, "string": {"type": "string"}}
    types: dict[str, Any] = {}
    for name, item in one.items():
        types[f"Setting.{name}"] = {"anyOf": [item, parameter]}
        types[f"Setting.{name}s"] = {
            "anyOf": [item, parameter, {"type": "array", "items": {"anyOf": [item, parameter]}}]
        }
    types["Setting.dtype"] = {"anyOf": [{"enum": list(values.DTYPES)}, {"type": "integer"}, parameter]}
    types["Setting.any"] = {}
    types["Setting.input"] = {"type": ["string", "number", "boolean", "array"]}
    return types


def _op_schema(op: str) -> dict[str, Any]:
    domain = extension.DOMAIN if op in extension.EXTENSION_OPS else ""
    schema = signature.schema(domain, op)
    assert schema is not None
    settings = {name: f"Setting.{_setting_name(a)}" for name, a in schema.attributes.items()}
    inputs = [p.name for p in schema.inputs if not signature.is_variadic(p)]
    settings.update(dict.fromkeys([*inputs, *(n.lower() for n in inputs)], "Setting.input"))
    settings.update(layers.settings(op))
    properties: dict[str, Any] = {name: {"$ref": f"#/$defs/{kind}"} for name, kind in sorted(settings.items())}
    for (owner, name), words in attributes.WORDS.items():
        if owner == op:
            properties[name] = {"anyOf": [{"enum": list(words)}, {"type": "string", "pattern": r"^\$"}]}
    return {"if": {"required": ["op"], "properties": {"op": {"const": op}}}, "then": {"properties": properties}}


def _setting_name(attribute: onnx.defs.OpSchema.Attribute) -> str:
    name = attribute.type.name.lower()
    if name == "int" and attribute.name in values.DTYPE_ATTRIBUTES:
        return "dtype"
    return name if name in ("int", "ints", "float", "floats", "string", "strings") else "any"


def _training_schema() -> dict[str, Any]:
    from dlbridge.training.spec import TrainingSpec

    return TrainingSpec.model_json_schema(by_alias=True, ref_template="#/$defs/{model}")
