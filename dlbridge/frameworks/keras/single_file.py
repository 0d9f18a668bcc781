"""Writes a model as one ``.keras`` file, and reads it back to see that it is the same."""

from __future__ import annotations

from pathlib import Path

import keras

from dlbridge.errors import WrittenModelError, first_line
from dlbridge.frameworks import single_file
from dlbridge.frameworks.keras import runner
from dlbridge.source.program import Source


def save(source: Source, path: Path, where: str) -> None:
    """Write the file, and run what Keras makes of it: with its own classes alone, and no code.

    Raises:
        WrittenModelError: When Keras cannot read the file, or the model in it computes something else.
    """
    live = runner.load(source)
    live.save(path)
    try:
        with runner.policy(source):
            again = keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises errors of all kinds for what it cannot make
        raise WrittenModelError(
            f"the model has classes that a .keras file does not hold: {first_line(error)}",
            where=where,
            hint="write a folder (-o FOLDER): its model.py has them",
        ) from error
    again.dlbridge_source = source
    arrays = single_file.inputs(source.model)
    single_file.compare(runner.run(live, arrays), runner.run(again, arrays), where)
