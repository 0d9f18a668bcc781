"""What ``torch.fx`` and ``torch.export`` say of a graph: ops, tensors, sizes and what must hold of them."""
