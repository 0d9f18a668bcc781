"""A step of a decoder with its cache in onnxruntime, after 32 and after 512 tokens, beside transformers' own."""

from __future__ import annotations

import textwrap

from bench.cases import Failure, numbers_of

#: Tokens that are behind the step.
BEHIND = (32, 512)
_PROGRAM = """
    import tempfile
    from pathlib import Path
    import numpy as np, torch
    from tests.sweeps import torchvision_cpu
    import transformers
    import dlbridge, dlbridge.runtime
    from bench.timing import seconds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=8192, hidden_size=768, intermediate_size=2048, num_hidden_layers=6, num_attention_heads=12,
        num_key_value_heads=4, max_position_embeddings=1024)).eval()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "m.onnx"
        dlbridge.convert(module, "onnx", file, task="generate", check=False)
        session = dlbridge.runtime.load(file, threads=1)
        steps = []
        for behind in {behind}:
            cache = {{p.name: np.random.randn(1, 4, behind, 64).astype("float32")
                     for p in session.inputs if "past" in p.name}}
            feed = {{"input_ids": np.ones((1, 1), int), "attention_mask": np.ones((1, behind + 1), int), **cache}}
            steps.append(lambda feed=feed: session.run(feed))
        for behind in {behind}:
            pairs = [(torch.randn(1, 4, behind, 64), torch.randn(1, 4, behind, 64)) for _ in range(6)]
            ids, mask = torch.ones(1, 1, dtype=torch.long), torch.ones(1, behind + 1, dtype=torch.long)
            def peer(pairs=pairs, ids=ids, mask=mask):
                with torch.inference_mode():
                    module(input_ids=ids, attention_mask=mask, past_key_values=transformers.DynamicCache(pairs))
            steps.append(peer)
        whole = {{"input_ids": np.ones((1, 513), int), "attention_mask": np.ones((1, 513), int),
                 **{{p.name: np.zeros((1, 4, 0, 64), "float32") for p in session.inputs if "past" in p.name}}}}
        steps.append(lambda: session.run(whole))
        print({dumps})
"""


def run() -> list[dict[str, object]]:
    """One row for each number of tokens behind the step, and one without a cache."""
    dumps = "__import__('json').dumps(seconds(*steps, repeat=15))"
    found = numbers_of(textwrap.dedent(_PROGRAM).format(behind=BEHIND, dumps=dumps), OMP_NUM_THREADS="1")
    if isinstance(found, Failure):
        return [{"case": "a step", "ms": found}]
    *steps, whole = found
    own, peers = steps[: len(BEHIND)], steps[len(BEHIND) :]
    rows: list[dict[str, object]] = [
        {
            "case": f"a step after {behind}",
            "ms": 1000 * mine,
            "to the shortest": mine / own[0],
            "transformers, ms": 1000 * peer,
            "to transformers": mine / peer,
        }
        for behind, mine, peer in zip(BEHIND, own, peers, strict=True)
    ]
    rows.append({"case": "513 tokens without a cache", "ms": 1000 * whole, "to the shortest": whole / own[0]})
    return [{column: row.get(column, "") for column in rows[0]} for row in rows]
