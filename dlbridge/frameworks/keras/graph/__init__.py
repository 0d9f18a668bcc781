"""From the calls of a Keras model to nodes: the walk over them, and what the reading rules are given."""
