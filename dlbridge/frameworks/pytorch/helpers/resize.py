"""Where each output element of a resize lies in the input."""

import math

import torch

from dlbridge.source.arrays.helpers.resize import source_coordinate


def is_number(n):
    """Whether a size or scale is none that a tensor holds; a symbolic one is not."""
    return not isinstance(n, torch.Tensor)


def scaled_size(width, scale):
    """What is whole of scale * width."""
    return math.floor(scale * width)


def source_places(x, width, scale, size, coordinates, region):
    """Where in the input each output element lies: the index below, and the part of the step to the next."""
    y = torch.arange(size, dtype=torch.float64, device=x.device)
    at = source_coordinate(y, width, scale, size, coordinates, region)
    down = torch.floor(at)
    return down.long(), (at - down).to(torch.promote_types(x.dtype, torch.float32))
