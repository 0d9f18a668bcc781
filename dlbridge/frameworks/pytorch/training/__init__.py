"""Losses, optimizers and loops of PyTorch, to run and to print."""
