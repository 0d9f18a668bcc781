"""Ops of our own for ``torch.export``, which sees their sizes alone: the namespace ``torch.ops.dlbridge``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_library = torch.library.Library("dlbridge", "DEF")


def define(schema: str, run: Callable[..., Any], sizes: Callable[..., Any]) -> None:
    """Define an op.

    Args:
        schema: Its name, parameters and results, as PyTorch writes them.
        run: Computes it.
        sizes: Gives empty tensors of the sizes of its results.
    """
    name = schema.partition("(")[0]
    _library.define(schema)
    _library.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"dlbridge::{name}", sizes, lib=_library)
