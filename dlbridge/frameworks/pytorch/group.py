"""The processes that train together in PyTorch: those that ``torchrun``, or Ray Train, has started."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist

#: What starts such processes on Ray.
RAY_TRAINER = "ray.train.torch:TorchTrainer"


class Group:
    """This process among those that train together. See ``dlbridge.training.group.Group``."""

    def __init__(self) -> None:
        if not dist.is_initialized():  # Ray Train has done it
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
            atexit.register(_leave)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))

    def sum(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The sums of arrays over all processes."""
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        found = []
        for array in arrays:
            tensor = torch.from_numpy(np.array(array)).to(device)
            dist.all_reduce(tensor)
            found.append(tensor.cpu().numpy())
        return found


def _leave() -> None:
    """Leave the group that this module has joined, while the interpreter still runs.

    Gloo's threads let go of the last sum's tensors after it is done. A thread that does so while the interpreter ends
    aborts the process, after the training. NCCL has no such threads, and waits here for processes that have failed.
    """
    if dist.is_initialized() and dist.get_backend() == "gloo":
        gc.collect()  # a module that trains in the group keeps it
        dist.destroy_process_group()


def group() -> Group | None:
    """The processes that train together; None where this one is alone."""
    if not dist.is_available():
        return None
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        found = Group()
        return found if found.size > 1 else None
    return None
