"""Runs a written function. What is live: its source, the function, its weights."""

import numpy as np


def load(source):
    return source, source.execute()[source.entry], dict(source.arrays())


def load_saved(source, path):
    with np.load(path) as file:
        return source, source.execute()[source.entry], dict(file)


def run(live, inputs):
    source, function, weights = live
    found = function(*(inputs[name] for name in source.inputs), **weights)
    return dict(zip(source.outputs, found, strict=True))


def weights(live):
    return live[2]


def save_weights(source, folder):
    np.savez(folder / "weights.npz", **dict(source.arrays()))
