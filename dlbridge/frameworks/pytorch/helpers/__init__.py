"""Short functions for what PyTorch has no single call for; the writer copies those that a model uses into its file.

A module here imports only what a written file does: math, torch, F and nn.
"""
