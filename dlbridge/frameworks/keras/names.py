"""The one rule by which names cross: the dot between the parts of a path is a dash in the name of a Keras layer.

``layer1.0.conv1`` is called ``layer1-0-conv1`` in Keras, and is ``layer1.0.conv1`` when that model is read. A dot would
do for TensorFlow and JAX; Keras' PyTorch backend, which keeps variables in an ``nn.ParameterDict``, takes none.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection

from dlbridge.source.names import Names

#: Name of the layer that a model becomes whose own code needs sizes known only at run time; no part of a path.
NETWORK = "network"


class DefinitionNames(Names):
    """Names of the functions and classes in a file.

    Keras saves layers of one class as ``block``, ``block_1``, ...: what it would make of a class ``Block_1`` is taken.
    """

    def fresh(self, wanted: str) -> str:
        if wanted not in self.taken or not wanted[:1].isupper():
            return super().fresh(wanted)
        stem = f"{wanted}V" if wanted[-1].isdigit() else wanted
        return self.take(next(name for number in itertools.count(2) if (name := f"{stem}{number}") not in self.taken))


def layer_name(path: str) -> str:
    """What Keras calls the layer at a dotted path: what is neither a letter, a digit nor ``_`` in a part is ``_``."""
    return re.sub(r"[^\w.]", "_", path).replace(".", "-")


def spelled(part: str) -> str:
    """A part of a path as one word of an identifier, which is what Keras' names are made of.

    TensorFlow takes names of the letters, digits and underscores of ASCII alone for its scopes.
    """
    return re.sub(r"\W", "_", part, flags=re.ASCII)


def path_part(name: str, leaves: Collection[str] = ()) -> str:
    """A Keras name as a part of a dotted path: a dash between two characters is a dot, what else is not of an
    identifier is ``_``; so is the dash behind one of ``leaves``, the names of layers, which hold nothing."""

    def joint(dash: re.Match[str]) -> str:
        return "_" if name[: dash.start()] in leaves else "."

    return tensor_name(re.sub(r"(?<=\w)-(?=\w)", joint, name)) or "layer"


def tensor_name(name: str) -> str:
    """The name of an input: what is neither a letter, a digit, ``_`` nor ``.`` becomes ``_``."""
    return re.sub(r"[^\w.]+", "_", name, flags=re.ASCII).strip(".")
