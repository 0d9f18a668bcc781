"""Conformance: runs ONNX's own node tests on the source that the frameworks' writers make of them.

``python -m dlbridge.conformance`` prints the score; :mod:`dlbridge.conformance.backend` is ONNX's public ``Backend``
interface, so that ``onnx.backend.test`` can be run on dlbridge by anybody.
"""
