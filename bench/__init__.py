"""Benchmarks: ``python -m bench [NAME ...]``. Each compares with a peer in one run; what counts are the ratios."""
