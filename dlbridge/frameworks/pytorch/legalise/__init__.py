"""Passes before printing: what PyTorch says in its own way becomes an attribute of a node."""
