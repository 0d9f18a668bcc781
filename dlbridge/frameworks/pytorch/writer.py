"""Writes a model as the source of a ``torch.nn.Module``."""

from __future__ import annotations

from dlbridge.errors import UnsupportedOpError
from dlbridge.frameworks.pytorch import WriteOptions, writes
from dlbridge.frameworks.pytorch.dialect import PyTorchDialect
from dlbridge.frameworks.pytorch.legalise.pooled_axes import pooled_axes
from dlbridge.frameworks.pytorch.legalise.recurrent_layers import recurrent_layers
from dlbridge.frameworks.pytorch.legalise.stacks import join_stacks
from dlbridge.frameworks.pytorch.legalise.weight_norms import weight_norms
from dlbridge.frameworks.rule_modules import import_rules
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.passes.layout.pads import join_pads
from dlbridge.passes.prepare import FINISH, PREPARE
from dlbridge.passes.standard import graph_pass
from dlbridge.source.classes.writer import pipeline, write_modules
from dlbridge.source.program import Source

#: Memory formats, and how many axes the tensors have that are in them.
MEMORY_FORMATS = {"channels_last": 4, "channels_last_3d": 5}


def write(model: Model, options: WriteOptions) -> Source:
    """The model as PyTorch source.

    Args:
        model: The model.
        options: With a memory format, a function ``build_model`` makes the module in that format.

    Raises:
        UnsupportedOpError: When ops have no rule; all of them are named. When weights do not go into the memory format.
    """
    import_rules(writes)
    if options.memory_format is not None:
        _check_memory_format(model, options.memory_format)
    return write_modules(model, PASSES, PyTorchDialect(options.memory_format), partial=options.partial)


#: What is done to a model before its classes are printed.
PASSES = [
    *PREPARE,
    graph_pass(join_pads, "Let a convolution pad for itself."),
    graph_pass(join_stacks, "Let recurrent layers that were one layer of several be one."),
    graph_pass(recurrent_layers, "Let recurrent ops be layers of PyTorch's."),
    graph_pass(pooled_axes, "Let the mean of axes stand for a pool of what is turned for it."),
    graph_pass(weight_norms, "Let layers with a weight norm be layers."),
    *FINISH,
]
PIPELINE = pipeline(PASSES)


def _check_memory_format(model: Model, wanted: str) -> None:
    for name, value in model.graph.initializers.items():
        rank = len(value.shape or ())
        if traits.kind(value) != "constant" and rank in MEMORY_FORMATS.values() and rank != MEMORY_FORMATS[wanted]:
            other = next(name for name, axes in MEMORY_FORMATS.items() if axes == rank)
            raise UnsupportedOpError(f"a weight of {rank} axes is not in {wanted}", where=name, hint=f"try {other}")
