"""The writing rules of PyTorch, one family a file; each module registers its rules when it is imported."""
