"""Hostile strings in every string field of every file: refused, or printed as a literal, and nothing runs.

A string may change what things are called, never what the printed code does: its syntax tree without names and literals
is one that a harmless name gives too.
"""

from __future__ import annotations

import random
from pathlib import Path

import onnx
import pytest

import dlbridge
from dlbridge.errors import DlbridgeError
from tests.helpers import hostile, hostile_files

#: Names that nobody would refuse, one for each way to print a name: an identifier, a string, an item of a list.
HARMLESS = ["fc2", "a-b", "0", "a.b", "a.0.b", "forward", "Block", "a_b_c", "relu", "é", "tanh", "none", "y", "1"]
#: What printed code may read of Python.
ALLOWED = {"super", "range", "max", "min", "float", "int", "len", "list", "tuple", "print", "__init__", "math", "slice"}
ALLOWED |= {
    "zip",
    "enumerate",
    "isinstance",
    "sum",
    "any",
    "all",
    "str",
    "bool",
    "NotImplementedError",
    "abs",
    "reversed",
}


class Case:
    """A kind of file, and how a string is put into one of its places.

    Args:
        places: The places.
        load: (place, string) -> the source to read; the harmless one without a string.
    """

    def __init__(self, places, load):
        self.places, self.load = list(places), load
        self.known: dict[str, set[str | None]] = {}

    def check(self, place, text: str, framework: str) -> None:
        found = outcome(self.load(place, text), framework)
        known = self.known.setdefault(framework, set()) or {outcome(self.load(place, None), framework)}
        if found is not None and found not in known:
            names = [*HARMLESS, hostile.harmless(text)]
            known |= {outcome(self.load(place, name), framework) for name in names}
            assert found in known, f"{text!r} at {place} gives other code"
        self.known[framework] = known


def outcome(source, framework: str, **options) -> str | None:
    """What the printed code of a source does; None where it is refused. Nothing may run, and no raw error be raised."""
    try:
        written = dlbridge.load(source, **options).write(framework)
    except DlbridgeError as error:
        assert all(line.isprintable() for line in str(error).split("\n"))
        return None
    finally:
        hostile.check_nothing_ran()
    written.execute()
    hostile.check_nothing_ran()
    assert hostile.calls(written.text) <= ALLOWED
    return hostile.skeleton(written.text)


def file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def description(folder):
    data = hostile_files.DESCRIPTION

    def load(place, text):
        return file(folder, "m.json", hostile.dumps(data if text is None else hostile.put(data, place, text)))

    return Case([place for place, _ in hostile.places(data)], load)


def renamed_description(folder):
    """The same string wherever a name is used, so that it still fits together."""
    data = hostile_files.DESCRIPTION

    def load(place, text):
        return file(folder, "m.json", hostile.dumps(data if text is None else hostile.rename(data, place, text)))

    return Case(
        ["m", "x", "scale", "two", "part", "fc", "head", "scaled", "doubled", "noise", "y", "label", "Head"], load
    )


def onnx_file(folder):
    fields = dict(hostile.string_fields(hostile_files.onnx_model()))

    def load(place, text):
        model = hostile_files.onnx_model()
        if text is not None:
            try:
                dict(hostile.string_fields(model))[place](text)
            except UnicodeEncodeError:  # protobuf takes no half characters: the bytes are put there by the fuzz
                return file(folder, "m.onnx", b"")
        return file(folder, "m.onnx", model.SerializeToString())

    return Case(fields, load)


def renamed_onnx(folder):
    """The same string wherever a name is used, in a live model."""

    def load(place, text):
        model = hostile_files.onnx_model()
        for path, put in hostile.string_fields(model) if text is not None else ():
            owner = model
            for part, index in zip(path[::2], path[1::2], strict=True):
                value = getattr(owner, part)
                repeated = not isinstance(value, (str, bytes)) and not hasattr(value, "ListFields")
                owner = value[index] if repeated else value
            if owner == place:
                try:
                    put(text)
                except UnicodeEncodeError:
                    return onnx.ModelProto()
        return model

    return Case(["x", "y", "h", "g", "net", "fc.weight", "/block/fc/Gemm", "act", "Twice", "own", "t", "branch"], load)


def exported(folder):
    path = hostile_files.pt2(folder / "good.pt2")
    program = hostile_files.member(path, "models/model.json")

    def load(place, text):
        changed = program if text is None else hostile.put(program, place, text)
        return hostile_files.replaced(path, folder / "m.pt2", {"models/model.json": hostile.dumps(changed)})

    return Case([place for place, _ in hostile.places(program)], load)


def renamed_exported(folder):
    path = hostile_files.pt2(folder / "good.pt2")
    members = (
        "models/model.json",
        "data/weights/model_weights_config.json",
        "data/constants/model_constants_config.json",
    )
    trees = {name: hostile_files.member(path, name) for name in members}

    def load(place, text):
        changed = {n: hostile.dumps(t if text is None else hostile.rename(t, place, text)) for n, t in trees.items()}
        return hostile_files.replaced(path, folder / "m.pt2", changed)

    return Case(["picture", "scale", "fc.weight", "shift", "fixed", "p_fc_weight", "linear", "gelu", "tanh"], load)


def keras_file(folder):
    path = hostile_files.keras_archive(folder / "good.keras")
    config = hostile_files.member(path, "config.json")

    def load(place, text):
        changed = config if text is None else hostile.put(config, place, text)
        return hostile_files.replaced(path, folder / "m.keras", {"config.json": hostile.dumps(changed)})

    return Case([place for place, _ in hostile.places(config)], load)


def renamed_keras(folder):
    path = hostile_files.keras_archive(folder / "good.keras")
    config = hostile_files.member(path, "config.json")

    def load(place, text):
        changed = config if text is None else hostile.rename(config, place, text)
        return hostile_files.replaced(path, folder / "m.keras", {"config.json": hostile.dumps(changed)})

    return Case(["picture", "fc", "norm", "to_rows", "memory", "net"], load)


class Named:
    """A live module, one of whose names is a string: of a module, parameter, buffer, class or input."""

    PLACES = ("module", "item", "parameter", "buffer", "class", "input")

    def __init__(self, place: str, text: str) -> None:
        import torch

        names = {**{key: f"{key}_of_it" for key in self.PLACES}, place: text}

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                block = type(names["class"], (torch.nn.Sequential,), {})
                self.add_module(names["module"], block(torch.nn.Linear(4, 4), torch.nn.ReLU()))
                self.items = torch.nn.ModuleDict({names["item"]: torch.nn.Linear(4, 4)})
                self.register_parameter(names["parameter"], torch.nn.Parameter(torch.ones(4)))
                self.register_buffer(names["buffer"], torch.ones(4))

            def forward(self, batch):
                y = self.get_submodule(names["module"])(batch[names["input"]])
                y = self.items[names["item"]](y) * self._parameters[names["parameter"]]
                return {names["input"]: y + self._buffers[names["buffer"]]}

        self.module, self.inputs = Model(), ({names["input"]: torch.ones(2, 4)},)


@pytest.mark.parametrize("place", Named.PLACES)
def test_hostile_names_in_a_live_module(place):
    # lines break, and values stand in the line that reads them, by how long a name is
    plain = ("a", "fc2", "a-b", *(f"{start}{'b' * length}" for start in ("a", "a-") for length in (15, 30, 60, 90)))
    known = {outcome(made.module, "pytorch", inputs=made.inputs) for made in (Named(place, name) for name in plain)}
    assert None not in known
    for text in random.Random(place).sample(hostile.STRINGS, 4):
        try:
            made = Named(place, text)
        except Exception:
            continue  # torch takes no such name itself
        found = outcome(made.module, "pytorch", inputs=made.inputs)
        assert (
            found is None or found in known or found == outcome(Named(place, "0").module, "pytorch", inputs=made.inputs)
        )


@pytest.mark.parametrize("place", ["layer", "input", "model"])
def test_hostile_names_in_a_live_keras_model(place):
    import keras

    def model(text):
        names = {"layer": "fc", "input": "picture", "model": "net", place: text}
        x = keras.Input((4,), name=names["input"])
        return keras.Model(x, keras.layers.Dense(3, name=names["layer"])(x), name=names["model"])

    known = {outcome(model(name), framework) for name in ("fc2", "a-b", "0") for framework in ("keras", "pytorch")}
    for text in random.Random(place).sample(hostile.STRINGS, 6):
        try:
            made = model(text)
        except Exception:
            continue  # Keras takes no such name itself
        for framework in ("keras", "pytorch"):
            found = outcome(made, framework)
            if found is not None and found not in known:
                assert found == outcome(model(hostile.harmless(text)), framework), text


CASES = [
    description,
    renamed_description,
    onnx_file,
    renamed_onnx,
    exported,
    renamed_exported,
    keras_file,
    renamed_keras,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


#: Of kinds that take long to read, so many fields are tried by default.
FIELDS = 45


@pytest.mark.parametrize(
    ("make", "framework"),
    [
        *((make, framework) for make in CASES[:4] for framework in ("pytorch", "keras")),
        *((make, "keras") for make in CASES[4:6]),
        *((make, "pytorch") for make in CASES[6:]),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_hostile_string_in_each_field(make, framework, folder):
    case, chosen = make(folder), random.Random(make.__name__ + framework)
    fields: dict[object, list[object]] = {}
    for place in case.places:  # of a field that stands in many places, one
        fields.setdefault(place if isinstance(place, str) else hostile.field(place), []).append(place)
    tried = list(fields.values())
    for places in tried if make in CASES[:4] else chosen.sample(tried, min(FIELDS, len(tried))):
        case.check(chosen.choice(places), chosen.choice(hostile.STRINGS), framework)


@pytest.mark.slow
@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_every_hostile_string_in_every_place(make, folder):
    case = make(folder)
    for place in case.places:
        for text in hostile.STRINGS:
            case.check(place, text, "pytorch")
