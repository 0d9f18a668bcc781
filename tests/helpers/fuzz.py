"""Mutants of small files of every kind: each is read, written and run, or refused in words; none hangs or takes memory.

``make fuzz`` tries 20,000 in worker processes: each has a bound on its memory, each mutant one on its time.

    python -m tests.helpers.fuzz --mutants 20000
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

#: Seconds that one mutant may take, and bytes that a worker may take beyond what the frameworks do.
SECONDS, MEMORY = 30, 3 << 30
#: How often each kind is tried.
SHARES = {"onnx": 6, "yaml": 5, "saved": 4, "npz": 3, "pt2": 1, "keras": 1}


# --- mutants ----------------------------------------------------------------------------------------------------------


def mutant(data: bytes, chosen: random.Random) -> bytes:
    """The bytes with a few changes: flipped, replaced, cut, doubled, moved, numbers at their limits."""
    out = bytearray(data)
    for _ in range(chosen.choice((1, 1, 1, 2, 3, 8))):
        at = chosen.randrange(len(out) + 1)
        size = min(chosen.choice((1, 1, 2, 4, 8, 40)), len(out) - at)
        match chosen.randrange(9):
            case 0 if size:
                out[at] ^= 1 << chosen.randrange(8)
            case 1:
                out[at : at + size] = chosen.randbytes(size)
            case 2:
                del out[at : at + size]
            case 3:
                out[at:at] = out[at : at + size] * chosen.choice((1, 1, 2, 50))
            case 4:
                source = chosen.randrange(len(out) + 1)
                out[at : at + size] = out[source : source + size]
            case 5:
                out[at : at + size] = chosen.choice((b"\xff", b"\0", b"\x7f", b"\x80")) * size
            case 6:
                del out[at:]
            case 7:
                out[at : at + size] = chosen.choice((b"-1", b"99999999999", b"1e999", b"NaN", b"null", b"[[[[", b"{}"))
            case 8:
                out[at:at] = chosen.choice(
                    (b'"', b"'", b"\\", b"\n", b"\xc3", b"\xed\xa0\x80", b"*a", b"&a ", b"!!", b"$")
                )
    return bytes(out)


def mutant_of_archive(data: bytes, chosen: random.Random) -> bytes:
    """A zip file with a mutant in one of its members, whose checksum is right, or whose own bytes are a mutant's."""
    if chosen.random() < 0.15:
        return mutant(data, chosen)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        victim = chosen.choice([n for n in names if n.endswith(".json")] * 3 + names)
        for name in names:
            content = old.read(name)
            new.writestr(name, mutant(content, chosen) if name == victim else content)
    return out.getvalue()


# --- what is done with them -------------------------------------------------------------------------------------------


def read_and_write(path: Path, frameworks: tuple[str, ...]) -> None:
    import dlbridge

    model = dlbridge.load(path)
    for name in model.weights:
        model.weights[name].sum()
    for framework in frameworks:
        model.write(framework).execute()


def read_data(path: Path) -> None:
    from dlbridge.training.datasets.tables import read_arrays

    read_arrays(path)


def seeds(folder: Path, kinds: list[str]) -> dict[str, tuple[bytes, Callable[[bytes, Path], None]]]:
    """Kind -> (the harmless file, what is done with a mutant in a folder)."""
    import numpy as np

    import dlbridge
    from dlbridge.description import to_yaml
    from tests.helpers import hostile_files

    def to(name: str, frameworks: tuple[str, ...]) -> Callable[[bytes, Path], None]:
        def run(data: bytes, work: Path) -> None:
            (work / name).write_bytes(data)
            read_and_write(work / name, frameworks)

        return run

    def saved(data: bytes, work: Path) -> None:
        (work / "saved").mkdir(exist_ok=True)
        (work / "saved" / "model.yaml").write_bytes((folder / "saved" / "model.yaml").read_bytes())
        (work / "saved" / "weights.safetensors").write_bytes(data)
        read_and_write(work / "saved", ())

    def npz(data: bytes, work: Path) -> None:
        (work / "data.npz").write_bytes(data)
        read_data(work / "data.npz")

    found: dict[str, tuple[bytes, Callable[[bytes, Path], None]]] = {}
    if "onnx" in kinds:
        found["onnx"] = hostile_files.onnx_model().SerializeToString(), to("m.onnx", ("pytorch", "keras"))
    if "yaml" in kinds:
        text = to_yaml(hostile_files.DESCRIPTION)
        found["yaml"] = text.encode(), to("m.yaml", ("pytorch", "keras"))
    if "saved" in kinds:
        source = folder / "source.json"
        source.write_text(json.dumps(hostile_files.DESCRIPTION))
        dlbridge.load(source).save(folder / "saved")
        found["saved"] = (folder / "saved" / "weights.safetensors").read_bytes(), saved
    if "npz" in kinds:
        np.savez(folder / "data.npz", x=np.ones((3, 4), np.float32), label=np.arange(3))
        found["npz"] = (folder / "data.npz").read_bytes(), npz
    if "pt2" in kinds:
        found["pt2"] = hostile_files.pt2(folder / "m.pt2").read_bytes(), to("m.pt2", ("pytorch",))
    if "keras" in kinds:
        found["keras"] = hostile_files.keras_archive(folder / "m.keras").read_bytes(), to("m.keras", ("pytorch",))
    return found


def tried(kind: str, number: int, seed: int, known: dict, work: Path) -> str | None:
    """Try one mutant. Returns what went wrong, with its traceback; None where it was read or refused in words."""
    from dlbridge.errors import DlbridgeError
    from tests.helpers import hostile

    data, run = known[kind]
    chosen = random.Random(f"{seed} {kind} {number}")
    made = (mutant_of_archive if kind in ("pt2", "keras", "npz") else mutant)(data, chosen)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            run(made, work)
        hostile.check_nothing_ran()
    except DlbridgeError:
        return None
    except Exception:
        return traceback.format_exc()
    return None


# --- workers ----------------------------------------------------------------------------------------------------------


def worker(pipe: Connection, seed: int, kinds: list[str]) -> None:
    """Try the mutants whose (kind, number) come through a pipe, within a bound on memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        known = seeds(folder, kinds)
        for kind, (data, run) in known.items():
            run(data, folder)  # what a framework takes when it is used first is not the mutants' doing
            assert kind
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        pipe.send("ready")
        while True:
            kind, number = pipe.recv()
            pipe.send(tried(kind, number, seed, known, folder))


def start(seed: int, kinds: list[str]) -> tuple[multiprocessing.Process, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=worker, args=(theirs, seed, kinds), daemon=True)
    process.start()
    theirs.close()
    if not ours.poll(600):
        raise RuntimeError("the worker does not start")
    ours.recv()
    return process, ours


def fuzz(kind: str, numbers: range, seed: int) -> Iterator[tuple[int, str | None, float]]:
    """(number, what went wrong, seconds) of each mutant. A worker that dies or hangs is told, and replaced."""
    process, pipe = start(seed, [kind])
    for number in numbers:
        begun, wrong = time.monotonic(), None
        try:
            pipe.send((kind, number))
            wrong = pipe.recv() if pipe.poll(SECONDS) else f"no answer in {SECONDS} s"
        except (EOFError, OSError):
            process.join(5)
            wrong = f"the worker died: exit code {process.exitcode}"
        if wrong is not None and wrong.startswith(("no answer", "the worker died")):
            process.kill()
            process.join()
            process, pipe = start(seed, [kind])
        yield number, wrong, time.monotonic() - begun
    process.kill()
    process.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=list(SHARES))
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    shares = {kind: SHARES[kind] for kind in arguments.kinds}
    failures = 0
    for kind, share in shares.items():
        count = arguments.mutants * share // sum(shares.values())
        errors: Counter[str] = Counter()
        slowest = 0.0
        begun = time.monotonic()
        for number, wrong, seconds in fuzz(kind, range(count), arguments.seed):
            slowest = max(slowest, seconds)
            if wrong is not None:
                last = wrong.strip().splitlines()[-1]
                errors[last[:160]] += 1
                if errors[last[:160]] == 1:
                    print(f"{kind} {number}: {wrong}", flush=True)
        failures += sum(errors.values())
        spent = time.monotonic() - begun
        print(
            f"{kind}: {count} mutants, {sum(errors.values())} wrong, slowest {slowest:.1f} s, {spent:.0f} s", flush=True
        )
    print(f"{failures} of {arguments.mutants} mutants went wrong")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
