"""What an op is: its domain and its name. The one place that knows which names may be said without a domain.

A name alone stands for an op of the standard (whose domain is ``""``, also spelled ``ai.onnx``) and for an op of
``dlbridge.ops.extension``. Every other op is ``domain::name``, so that no table and no comparison takes
``com.acme::Sigmoid`` for ``Sigmoid``.
"""

from __future__ import annotations

from typing import Protocol

from dlbridge.ops import extension

__all__ = ["FORMS", "HasOp", "is_op", "layer_key", "op_key"]

#: Domains of ops in a form that a writer made for itself: the same ops, in another layout or several in one.
FORMS = frozenset({"dlbridge.channels_last", "dlbridge.stack"})
_STANDARD = ("", "ai.onnx")


class HasOp(Protocol):
    """A node, of ``onnx_ir`` or of an ONNX file."""

    @property
    def domain(self) -> str: ...
    @property
    def op_type(self) -> str: ...


def op_key(node: HasOp) -> str:
    """The op of a node, as tables and messages name it: ``Sigmoid``, ``Linear``, ``com.acme::Sigmoid``."""
    is_standard = node.domain in _STANDARD
    is_ours = node.domain == extension.DOMAIN and node.op_type in extension.EXTENSION_OPS
    return node.op_type if is_standard or is_ours else f"{node.domain}::{node.op_type}"


def layer_key(node: HasOp) -> str:
    """As :func:`op_key`, after a writer has put ops into forms of its own: ``Conv`` in channels-last form too."""
    return node.op_type if node.domain in FORMS else op_key(node)


def is_op(node: HasOp | None, *keys: str) -> bool:
    """Whether there is a node and it is one of these ops, as :func:`op_key` names them."""
    return node is not None and op_key(node) in keys
