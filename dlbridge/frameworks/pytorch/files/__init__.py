"""What is on disk, checked before torch sees it: ``.pt2``, folders of transformers, TorchScript."""
