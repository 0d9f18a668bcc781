"""Short functions for what PyTorch has no single call for; the writer copies those that a model uses into its file."""

