"""Hostile requests, configurations and repositories: each is taken, or refused in words, and nothing outside is read.

``make hostile`` tries 100,000 of each kind.

    python -m tests.helpers.serving_fuzz --cases 100000
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import random
import re
import shutil
import string
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from dlbridge.errors import DlbridgeError
from dlbridge.repository import config as configs
from dlbridge.repository import messages
from dlbridge.repository.config import Signature
from dlbridge.runtime.images import image_reader
from dlbridge.runtime.signature import Port
from dlbridge.serving import ports, service, versions, worker
from dlbridge.serving.grpc import methods as over_grpc
from dlbridge.serving.http import messages as http_messages
from dlbridge.serving.repository import Repository, ServedModel
from dlbridge.serving.requests import InferRequest, InferResponse
from dlbridge.serving.scheduler import Scheduler
from dlbridge.serving.shared_memory import SharedMemory
from dlbridge.serving.statistics import Statistics
from dlbridge.serving.tensors import check_size, to_array
from dlbridge.serving.versions import ServedVersion
from tests.helpers.fuzz import mutant

#: Seconds that a case may take.
SECONDS = 5.0
#: Where cases are written if it is there: a folder is removed from memory in a thousandth of what a disk needs.
_MEMORY = Path("/dev/shm")
_X = np.ones((2, 3), np.float32)
MODEL = Signature(
    {"x": ("FP32", ("batch", 3)), "n": ("INT64", ("batch",)), "s": ("BYTES", ("batch", 2))},
    {"y": ("FP32", ("batch", 3))},
)
CONFIG = """
name: "model" platform: "onnxruntime_onnx" max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [3] } input { name: "n" data_type: TYPE_INT64 dims: [1] reshape { } }
input { name: "s" data_type: TYPE_STRING dims: [2] }
output { name: "y" data_type: TYPE_FP32 dims: [3] label_filename: "labels.txt" }
dynamic_batching { max_queue_delay_microseconds: 100 preferred_batch_size: 4
  priority_levels: 2 default_priority_level: 1
  default_queue_policy { max_queue_size: 8 default_timeout_microseconds: 5 allow_timeout_override: true }
  priority_queue_policy { key: 2 value { timeout_action: DELAY } } }
instance_group { count: 2 kind: KIND_CPU } version_policy { latest { num_versions: 2 } }
model_warmup { name: "w" batch_size: 2 inputs { key: "x" value { data_type: TYPE_FP32 dims: [3] random_data: true } } }
parameters { key: "intra_op_thread_count" value { string_value: "2" } }
"""
#: JSON values that are not what is expected.
_VALUES = (
    None,
    True,
    -1,
    0,
    1 << 39,
    1 << 70,
    1.5,
    1e308,
    "",
    "x",
    "\ud7ff",
    [],
    [[]],
    [1, "a"],
    {},
    {"a": {}},
    [None],
)


def config_of(text: bytes, folder: Path) -> Any:
    """The completed configuration of an entry whose ``config.pbtxt`` has this text."""
    (folder / "config.pbtxt").write_bytes(text)
    return configs.complete(configs.read(folder), MODEL, "model")


class Served:
    """What of a version is looked at while a request is checked."""

    def __init__(self, folder: Path) -> None:
        self.config = config_of(CONFIG.encode(), folder)
        self.ports, self.reshapes = ports.ports(self.config), ports.reshapes(self.config)
        self.label = "model, version 1"


# --- requests ---------------------------------------------------------------------------------------------------------


def _altered(value: Any, chosen: random.Random) -> Any:
    """A JSON value in which something is another value, is not there, or is there under another name."""
    if chosen.random() < 0.15 or not isinstance(value, (dict, list)) or not value:
        return chosen.choice(_VALUES)
    if isinstance(value, list):
        place = chosen.randrange(len(value))
        return [*value[:place], _altered(value[place], chosen), *value[place + 1 :]]
    key = chosen.choice(list(value))
    match chosen.randrange(8):
        case 0:
            return {k: v for k, v in value.items() if k != key}
        case 1:
            return {
                **value,
                chosen.choice(("shared_memory_region", "binary_data_size", "data", "id", "timeout")): chosen.choice(
                    _VALUES
                ),
            }
        case _:
            return {**value, key: _altered(value[key], chosen)}


def _asked() -> dict[str, Any]:
    strings = [["a", "b"], ["c", "d"]]
    return {
        "id": "1",
        "parameters": {"priority": 1, "timeout": 1000, "binary_data_output": True},
        "inputs": [
            {"name": "x", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": _X.nbytes}},
            {"name": "n", "shape": [2, 1], "datatype": "INT64", "data": [1, 2]},
            {"name": "s", "shape": [2, 2], "datatype": "BYTES", "data": strings},
        ],
        "outputs": [{"name": "y", "parameters": {"binary_data": True, "classification": 2}}],
    }


def http_request(chosen: random.Random, folder: Path, served: Served) -> None:
    """Read a request over HTTP, check it against the model, make its arrays, render an answer."""
    asked = _asked()
    for _ in range(chosen.choice((0, 1, 1, 2, 3))):
        asked = _altered(asked, chosen)
    header = json.dumps(asked).encode()
    if chosen.random() < 0.4:
        header = mutant(header, chosen)
    body = header + (_X.tobytes() if chosen.random() < 0.9 else chosen.randbytes(chosen.randrange(40)))
    length = (
        str(len(header)).encode() if chosen.random() < 0.9 else chosen.choice((None, b"", b"-1", b"9" * 30, b"0x1"))
    )
    headers = {} if length is None else {http_messages.HEADER_LENGTH.encode(): length}
    request, is_binary = http_messages.parse("model", "", body, headers, SharedMemory(True))
    http_messages.body_of(fitted(request, served), is_binary, chosen.choice((b"", b"gzip", b"deflate")))


def grpc_request(chosen: random.Random, folder: Path, served: Served) -> None:
    """Read a request over gRPC, check it against the model, make its arrays, render an answer."""
    message = messages.ModelInferRequest(model_name="model", id="1")
    for name, datatype, shape in (("x", "FP32", (2, 3)), ("n", "INT64", (2, 1)), ("s", "BYTES", (2, 2))):
        message.inputs.add(name=name, datatype=datatype, shape=shape)
    if chosen.random() < 0.6:
        message.raw_input_contents.extend((_X.tobytes(), np.arange(2).tobytes(), b"\1\0\0\0a" * 4))
    else:
        message.inputs[0].contents.fp32_contents.extend(_X.reshape(-1).tolist())
        message.inputs[1].contents.int64_contents.extend((1, 2))
        message.inputs[2].contents.bytes_contents.extend((b"a", b"b", b"c", b"d"))
    message.parameters["timeout"].int64_param = 1000
    message.outputs.add(name="y").parameters["classification"].int64_param = 2
    message.inputs[0].parameters["shared_memory_byte_size"].int64_param = 4
    data = message.SerializeToString()
    if chosen.random() < 0.6:
        _altered_message(message, chosen)
        data = message.SerializeToString()
    else:
        data = mutant(data, chosen)
    try:
        found = messages.ModelInferRequest.FromString(data)
    except DecodeError as error:
        raise DlbridgeError(str(error)) from None  # gRPC itself refuses these
    over_grpc.render(fitted(over_grpc.parse(found, SharedMemory(True)), served)).SerializeToString()


def _altered_message(message: Any, chosen: random.Random) -> None:
    """Change a field of a request, or two."""
    for _ in range(chosen.choice((1, 1, 2))):
        entry = chosen.choice(message.inputs)
        number = chosen.choice((-1, 0, 1, 3, 1 << 40, (1 << 63) - 1))
        match chosen.randrange(9):
            case 0:
                entry.shape[:] = [number] * chosen.randrange(4)
            case 1:
                entry.datatype = chosen.choice(("", "FP32", "FP16", "BF16", "BOOL", "INT8", "UINT64", "BYTES", "X"))
            case 2:
                entry.contents.int_contents.extend([chosen.randrange(-(1 << 31), 1 << 31)] * chosen.randrange(1, 8))
            case 3:
                del message.raw_input_contents[chosen.randrange(4) :]
            case 4:
                message.raw_input_contents.append(chosen.randbytes(chosen.randrange(30)))
            case 5:
                entry.name = chosen.choice(("", "x", "n", "s", "\0"))
            case 6:
                entry.parameters["shared_memory_region"].string_param = chosen.choice(("", "x", "../etc/passwd"))
            case 7:
                message.parameters[chosen.choice(("timeout", "priority"))].int64_param = number
            case 8:
                message.outputs.add(name=chosen.choice(("", "y", "z"))).parameters[
                    "classification"
                ].int64_param = number


def fitted(request: InferRequest, served: Any) -> InferResponse:
    """An answer to a request that fits the model: its own numbers, scaled."""
    inputs, _ = service._fitted(served, request.inputs)
    if request.outputs is not None:
        service._wanted(served, request.outputs)
    arrays = {}
    for name, tensor in inputs:
        check_size(tensor, name)
        arrays[name] = to_array(tensor)
    return InferResponse("model", "1", request.id, [(name, tensor) for name, tensor in request.inputs.items()])


@functools.cache
def _images() -> list[bytes]:
    """A small image in each format that is read."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)
    found = []
    for kind in ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "EPS"):
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, kind)
        found.append(data.getvalue())
    return found


def image(chosen: random.Random, folder: Path, served: Served) -> None:
    """Read an image as an input takes it."""
    port = Port("x", np.dtype("float32"), ("batch", 3, None, None))
    read = image_reader(port, "an image", worker._MAX_PIXELS)
    found = read(io.BytesIO(mutant(chosen.choice(_images()), chosen)))
    assert found.shape[0] == 3 and 0 <= found.min() <= found.max() <= 1


# --- configurations and repositories ----------------------------------------------------------------------------------


def config(chosen: random.Random, folder: Path, served: Served) -> None:
    """Read, complete and use a configuration."""
    text = _edited(CONFIG, chosen) if chosen.random() < 0.7 else CONFIG
    found = config_of(mutant(text.encode(), chosen) if text is CONFIG else text.encode(), folder)
    ports.ports(found), ports.reshapes(found)
    (
        versions._providers(found),
        versions.threads(found),
        versions._warm_ups(found),
        versions.labels(found, folder, folder.parent),
    )
    Scheduler(found, Statistics())
    configs.to_json(found), configs.text(found)


_WORDS = (
    *(
        "-1",
        "0",
        "1",
        "3",
        "2147483647",
        "99999999999",
        "1e9",
        "true",
        '""',
        '"x"',
        '"../x"',
        "TYPE_FP16",
        "TYPE_INVALID",
    ),
    *("KIND_GPU", "KIND_AUTO", "all", "specific", "DELAY", "{ }", "", "dims", "reshape", "max_batch_size: 1"),
)


def _edited(text: str, chosen: random.Random) -> str:
    """A configuration with other words and numbers in the places of some."""
    words = re.findall(r'"[^"]*"|[\w.]+|\s+|.', text)
    places = [i for i, word in enumerate(words) if word.strip() and word not in "{}[]:"]
    for _ in range(chosen.choice((1, 1, 1, 2, 3))):
        words[chosen.choice(places)] = chosen.choice(_WORDS) if chosen.random() < 0.7 else words[chosen.choice(places)]
    return "".join(words)


_NAMES = ("model", "other", "..", ".hidden", "a b", "a\nb", "-x", "1", "x" * 250, "\u00e9", "config.pbtxt")
_VERSIONS = ("1", "2", "0", "01", "-1", "1e3", "9" * 18, "9" * 25, "\u0661", "\u00b2", "..", "x")


def repository(chosen: random.Random, folder: Path, served: Served) -> None:
    """Look through a repository of odd names, links and files, and at what each entry would serve."""
    root = folder / "repository"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for _ in range(chosen.randrange(1, 4)):
        _add_entry(chosen, folder, root)
    with only(root):
        _look_through(chosen, root)


def _look_through(chosen: random.Random, root: Path) -> None:
    served_here = Repository(root)
    for name in served_here.names():
        try:
            found = configs.read(root / name)
            files = served_here._files(name, found)
            versions.labels(found, root / name, root)
        except DlbridgeError:
            continue
        for version, file in files.items():
            assert file.resolve().is_relative_to(root), f"{file} is served"
            try:
                versions._check_certificate(file, root)
            except DlbridgeError:
                continue
            assert ServedVersion(file, name, version, found, root).label
    list(served_here.changed())
    served_here.models["model"] = ServedModel("model")
    for version in ("", *_VERSIONS):
        try:
            served_here.version(chosen.choice(_NAMES), version)
        except DlbridgeError:
            continue


def _add_entry(chosen: random.Random, folder: Path, root: Path) -> None:
    entry = root / (chosen.choice(_NAMES) if chosen.random() < 0.9 else "".join(chosen.choices(string.printable, k=9)))
    try:
        if chosen.random() < 0.1:
            entry.symlink_to(chosen.choice((folder / "outside", "/etc", "/", root, "nowhere", entry.name)))
            return
        place = entry / chosen.choice(_VERSIONS)
        place.mkdir(parents=True, exist_ok=True)
        for kind in ("model.onnx", "certificate.json", "../config.pbtxt", "../labels.txt"):
            _add_file(chosen, folder, place / kind)
    except (OSError, ValueError):
        return  # the file system does not take such a name


def _add_file(chosen: random.Random, folder: Path, path: Path) -> None:
    draw = chosen.random()
    if path.is_symlink() or path.exists():
        return
    if draw < 0.1:
        path.symlink_to(chosen.choice((folder / "outside" / "secret", "/etc/passwd", "/dev/zero", path.name)))
    elif draw < 0.2:
        path.mkdir()
    elif draw < 0.9:
        text = CONFIG if path.name == "config.pbtxt" else '{"passed": true}'
        path.write_bytes(mutant(text.encode(), chosen) if chosen.random() < 0.5 else text.encode())


KINDS: dict[str, Callable[[random.Random, Path, Served], None]] = {
    "http": http_request,
    "grpc": grpc_request,
    "image": image,
    "config": config,
    "repository": repository,
}

# --- trying -----------------------------------------------------------------------------------------------------------

#: The only folder that may be read, while it is not None; and what else was opened.
_allowed: Path | None = None
_opened: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what is opened outside of the folder, links followed."""
    if event != "open" or _allowed is None or not isinstance(arguments[0], (str, bytes)):
        return
    path = os.path.realpath(os.fsdecode(arguments[0]))
    if not path.startswith((f"{_allowed}/", sys.prefix, sys.base_prefix)) and not path.endswith((".py", ".pyc")):
        _opened.append(path)


@functools.cache
def watch() -> None:
    """Watch from now on what is opened."""
    sys.addaudithook(_watch)


@contextlib.contextmanager
def only(folder: Path) -> Iterator[None]:
    """Within this context no file outside of a folder may be opened."""
    global _allowed
    _allowed = folder
    try:
        yield
    finally:
        _allowed = None


def folder_for(work: Path) -> Path:
    """A folder in which cases can be tried."""
    folder = work.resolve() / "served"
    (folder / "model").mkdir(parents=True)
    (folder / "outside").mkdir()
    (folder / "model" / "labels.txt").write_text("a\nb\nc")
    (folder / "outside" / "secret").write_text('{"passed": true}')
    return folder


def tried(kind: str, number: int, seed: int, folder: Path, served: Served) -> tuple[str, str | None]:
    """Try one case: (``taken`` or ``refused``, what went wrong, None for nothing)."""
    chosen = random.Random(f"{seed} {kind} {number}")
    begun = time.monotonic()
    _opened.clear()
    place = folder / "model" if kind == "config" else folder
    outcome, wrong = "taken", None
    try:
        KINDS[kind](chosen, place, served)
    except DlbridgeError:
        outcome = "refused"
    except Exception:
        wrong = traceback.format_exc()
    if wrong is None and _opened:
        wrong = f"it opened {_opened}"
    if wrong is None and time.monotonic() - begun > SECONDS:
        wrong = f"it took {time.monotonic() - begun:.1f} s"
    return outcome, wrong


def main() -> None:
    """Try so many cases of each kind, and print those that go wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    watch()
    warnings.simplefilter("ignore")
    wrongs = 0
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as name:
        folder = folder_for(Path(name))
        served = Served(folder / "model")
        for kind in options.kinds:
            outcomes: Counter[str] = Counter()
            for number in range(options.cases):
                outcome, wrong = tried(kind, number, options.seed, folder, served)
                outcomes["went wrong" if wrong else outcome] += 1
                if wrong is not None and outcomes["went wrong"] <= 5:
                    print(f"{kind} {number}: {wrong}", flush=True)
            wrongs += outcomes["went wrong"]
            print(f"{kind}: {', '.join(f'{count} {what}' for what, count in sorted(outcomes.items()))}", flush=True)
    sys.exit(1 if wrongs else 0)


if __name__ == "__main__":
    main()
