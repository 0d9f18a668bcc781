"""Python's search for unreachable cycles: made less often while a model is read or written, and at once where a large
model is no longer wanted.

The interpreter goes over all objects of the process once some 70,000 new ones are there. With PyTorch and TensorFlow
imported there are 800,000, almost all of them the libraries' own: one such search takes 0.45 s, a fifth of what the
conversion of a ResNet-50 takes in all. (Reference counts free the weights; cycles hold graphs and little else.)
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: New objects before the youngest are searched. The factors for the older generations stay as they are, so that a
#: process which converts many models still searches everything now and then.
_NEW_OBJECTS = 10_000


@contextmanager
def fewer_searches() -> Iterator[None]:
    """Within the block (or the function that this decorates) the garbage collector starts less often."""
    before, *older = gc.get_threshold()
    if before == 0 or before >= _NEW_OBJECTS:  # it is off, or was set by who knows better; or this is within another
        yield
        return
    gc.set_threshold(_NEW_OBJECTS, *older)
    try:
        yield
    finally:
        if gc.get_threshold()[0] == _NEW_OBJECTS:  # nobody has set another meanwhile
            gc.set_threshold(before, *older)


def free_memory() -> None:
    """Free what a large model has left: live models refer to themselves, and C's library keeps what is freed."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
