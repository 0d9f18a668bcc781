"""Passes: what is done to the graph of a model between reading and writing, each keeping its meaning.

A pass is a function of an ``ir.Model`` (or graph) that changes it in place and says whether it did. A route is a
:class:`Pipeline` of them.
"""

from dlbridge.passes.pipeline import Pass, Pipeline

__all__ = ["Pass", "Pipeline"]
