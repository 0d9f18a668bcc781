"""A decoder of any size in a folder of sharded safetensors, and how much memory its conversion takes.

``python -m tests.helpers.large_model FOLDER FRAMEWORK OUT`` converts the folder and prints JSON: seconds, and the peak
of anonymous memory in MiB, of this process as a whole.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HIDDEN, INNER, VOCABULARY = 2048, 5632, 32000
#: Bytes of a shard.
SHARD = 2 * 10**9


def make(folder: Path, gigabytes: float) -> int:
    """Write a Llama with random weights into a folder, one tensor at a time; its bytes."""
    layers = max(1, round((gigabytes * 1e9 - 8 * VOCABULARY * HIDDEN) / (4 * (4 * HIDDEN**2 + 3 * HIDDEN * INNER))))
    folder.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": HIDDEN // 64,
        "num_key_value_heads": HIDDEN // 64,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
        "dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    shards = _shards(_shapes(layers))
    where = {}
    numbers = (np.random.default_rng(0).standard_normal(1 << 22) * 0.02).astype(np.float32)
    for place, shard in enumerate(shards, 1):
        file = f"model-{place:05}-of-{len(shards):05}.safetensors"
        where.update(dict.fromkeys(shard, file))
        _write(folder / file, shard, numbers)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return sum(4 * int(np.prod(shape)) for shard in shards for shape in shard.values())


def _shapes(layers: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(layers):
        path = f"model.layers.{layer}"
        shapes |= {f"{path}.self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"}
        shapes |= {f"{path}.mlp.{name}_proj.weight": (INNER, HIDDEN) for name in ("gate", "up")}
        shapes[f"{path}.mlp.down_proj.weight"] = (HIDDEN, INNER)
        shapes |= {f"{path}.{name}_layernorm.weight": (HIDDEN,) for name in ("input", "post_attention")}
    return {**shapes, "model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}


def _shards(shapes: dict[str, tuple[int, ...]]) -> list[dict[str, tuple[int, ...]]]:
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    size = 0
    for name, shape in shapes.items():
        size += 4 * int(np.prod(shape))
        if size > SHARD:
            shards.append({})
            size = 4 * int(np.prod(shape))
        shards[-1][name] = shape
    return shards


def _write(path: Path, shard: dict[str, tuple[int, ...]], numbers: np.ndarray) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shard.items():
        start, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shard.values():
            rest = int(np.prod(shape))
            while rest:
                file.write(numbers[:rest].data)
                rest -= min(rest, numbers.size)


# --- measuring --------------------------------------------------------------------------------------------------------


def _anonymous() -> float:
    """Anonymous memory of this process now, in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def peak_of(run: Callable[[], None]) -> tuple[float, float]:
    """(seconds, the most anonymous memory in MiB) while something runs."""
    found, done = [_anonymous()], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            found.append(max(found.pop(), _anonymous()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return time.perf_counter() - start, found[0]


def _convert(folder: str, framework: str, out: str) -> None:
    import dlbridge

    model = dlbridge.load(folder, cache=False)
    if framework == "description":
        model.save(out)
    else:
        dlbridge.frameworks.get(framework).save(model.write(framework), Path(out))


if __name__ == "__main__":
    from tests.sweeps import torchvision_cpu  # noqa: F401  (before torchvision, which transformers imports)

    warnings.simplefilter("ignore")
    seconds, memory = peak_of(lambda: _convert(*sys.argv[1:4]))
    print(json.dumps({"seconds": round(seconds, 1), "anonymous": round(memory)}))
