"""Serves a repository of models over the Open Inference Protocol: HTTP and gRPC, onnxruntime behind them.

``dlbridge serve REPO`` is its command. A request goes through ``http`` or ``grpc`` (its protocol), ``service`` (what is
asked), ``scheduler`` (its queue) and ``process`` to a ``worker``, the process that runs the model.
"""

from __future__ import annotations

from dlbridge.serving.server import Server, Settings, serve

__all__ = ["Server", "Settings", "serve"]
