"""How many rows a batch must have: batch normalization in training needs several numbers of each channel.

Of one number the variance is 0, which makes the output a constant, and there is no unbiased one: PyTorch refuses it,
other frameworks go on with NaN.
"""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.errors import TrainingError
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.keys import is_op


def one_row_at(model: Model) -> str | None:
    """The name of a batch normalization that cannot be trained on a batch of one row; None where there is none."""
    for node in model.graph.all_nodes():
        is_of_batch = node.metadata_props.get(traits.STATISTICS, "batch") == "batch"
        if is_op(node, "BatchNormalization") and is_of_batch and _is_one_number(node.inputs[0]):
            return node.name or ""
    return None


def _is_one_number(value: ir.Value | None) -> bool:
    """Whether a row has one number of each channel."""
    shape = None if value is None else value.shape
    return shape is not None and all(size == 1 for size in list(shape)[2:])


def check_last_batch(model: Model, rows: int, batch_size: int) -> None:
    """Check that the last batch of an epoch is not too small.

    Raises:
        TrainingError: When it has one row, and the model needs more.
    """
    if rows % batch_size == 1 or batch_size == 1:
        refuse_one_row("the last batch of an epoch", one_row_at(model), f"there are {rows} rows to train on: ")


def refuse_one_row(batch: str, norm: str | None, known: str = "") -> None:
    """Refuse a batch of one row if there is a batch normalization that it is too small for.

    Raises:
        TrainingError: When there is.
    """
    if norm is not None:
        raise TrainingError(
            f"{batch} has one row, of which the batch normalization '{norm}' has no variance",
            hint=f"{known}choose another batch_size, or leave a row out",
        )
