"""What an op is: its domain and its name. The one place that knows which names may be said without a domain.

A name alone stands for an op of the standard (whose domain is ``""``, also spelled ``ai.onnx``) and for an op of
``dlbridge.ops.extension``. Every other op is ``domain::name``, so that no table and no comparison takes
``com.acme::Sigmoid`` for ``Sigmoid``.
"""

from __future__ import annotations

from typing import Protocol

from dlbridge.ops import extension

__all__ = ["RANDOM_OPS", "HasOp", "is_form", "is_op", "layer_key", "op_key"]

#: Ops of the standard that draw other numbers in each call.
RANDOM_OPS = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")

#: Domains below ours that hold ops of their own: a further call of a module, a stand-in.
_OWN = frozenset({"dlbridge.call", "dlbridge.missing"})
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


def is_form(domain: str) -> bool:
    """Whether a domain holds ops of the standard, or of ``dlbridge``, in a form that a writer legalises them to.

    ``dlbridge.channels_last`` holds them in another layout; a domain that is named after a framework, as one of its
    layers has them: with an activation, of several layers, with results as the layer gives them.
    """
    return domain.startswith(f"{extension.DOMAIN}.") and domain not in _OWN


def layer_key(node: HasOp) -> str:
    """As :func:`op_key`, after a writer has legalised ops: ``Conv`` in channels-last form too."""
    return node.op_type if is_form(node.domain) else op_key(node)


def is_op(node: HasOp | None, *keys: str) -> bool:
    """Whether there is a node and it is one of these ops, as :func:`op_key` names them."""
    return node is not None and op_key(node) in keys
