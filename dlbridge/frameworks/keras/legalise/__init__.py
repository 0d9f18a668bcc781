"""Passes before printing: what Keras says in its own way becomes an attribute of a node."""
