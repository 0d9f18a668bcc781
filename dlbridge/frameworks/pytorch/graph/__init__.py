"""From an exported program to nodes: the walk over its graph, and what the reading rules are given."""
