"""Shared by the writers: code fragments, shape arithmetic, blocks to classes, names, printing, weights."""
