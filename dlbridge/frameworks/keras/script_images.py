"""Images in a training script of Keras: resized by ``keras.ops``, changed at random in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dlbridge.source.code import literal_text as text
from dlbridge.source.script_images import CHANNELS_LAST, ImageDialect

NUMPY = ImageDialect(
    library="np",
    layout=CHANNELS_LAST,
    array="{}",
    padded="np.pad(x, [(0, 0), ({n}, {n}), ({n}, {n}), (0, 0)])",
    luma='(x[..., :3] * np.array([0.299, 0.587, 0.114], "float32")).sum(-1, keepdims=True)',
)


def prepared(images: Any) -> Iterator[str]:
    """Yield the lines that make the input of the model of ``images``, which are bytes."""
    yield 'x = images.astype("float32")'
    if images.is_resized:
        mode = "" if images.mode == "linear" else ' interpolation="bicubic",'
        how = f'{text(images.size)},{mode} antialias=True, data_format="channels_last"'
        yield f"x = keras.ops.image.resize(x, {how})"
        yield "x = keras.ops.convert_to_numpy(x)"
    if images.channels_axis == 1:
        yield "x = x.transpose(0, 3, 1, 2)"
