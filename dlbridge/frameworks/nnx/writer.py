"""Writes a model as the source of a Flax ``nnx.Module``, channels-last."""

from __future__ import annotations

import functools

from dlbridge.frameworks.nnx import WriteOptions, writes
from dlbridge.frameworks.nnx.dialect import NNXDialect
from dlbridge.frameworks.rule_modules import import_rules
from dlbridge.model import Model
from dlbridge.passes import Pass, layout
from dlbridge.passes.layout.pads import join_pads
from dlbridge.passes.prepare import FINISH, PREPARE
from dlbridge.passes.standard import graph_pass, on_graph
from dlbridge.passes.unused import drop_weights
from dlbridge.source.classes.writer import write_modules
from dlbridge.source.program import Source


def write(model: Model, options: WriteOptions) -> Source:
    """The model as Flax NNX source; an ``UnsupportedOpError`` names all ops that have no rule."""
    import_rules(writes)
    return write_modules(model, passes(options.io_layout), NNXDialect(), partial=options.partial)


def passes(io_layout: str = "same") -> list[Pass]:
    """What is done to a model before its classes are printed.

    Args:
        io_layout: The layout of inputs and outputs (:func:`dlbridge.passes.layout.channels_last`).
    """
    last = functools.partial(layout.channels_last, io_layout=io_layout)
    return [
        *PREPARE,
        # PyTorch counts batches in buffers, for which Flax has no place.
        Pass("drop_unread", on_graph(drop_weights, "buffer"), "Leave out buffers that nothing reads."),
        graph_pass(join_pads, "Let a convolution pad for itself."),
        Pass("layout", last, "Let spatial ops be channels-last, with few transposes."),
        *FINISH,
    ]
