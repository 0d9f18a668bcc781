"""Losses, optimizers and ``fit`` of Keras, to run and to print."""
