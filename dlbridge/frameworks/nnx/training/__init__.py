"""Training in Flax NNX, to run and to print."""
