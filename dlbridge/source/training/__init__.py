"""Training in printed code: scripts and loops, and what trains of the weights."""
