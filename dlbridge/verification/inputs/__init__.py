"""The inputs that a model is verified with, made from its graph."""
