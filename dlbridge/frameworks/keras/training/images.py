"""Images in a training script of Keras: resized by ``keras.ops``, changed at random in NumPy."""

from __future__ import annotations

from dlbridge.source.training.images import CHANNELS_LAST, ImageDialect

NUMPY = ImageDialect(
    *("np", CHANNELS_LAST, "{}"),
    pixels='images.astype("float32")',
    resized=(
        'x = keras.ops.image.resize(x, {size},{mode} antialias=True, data_format="channels_last")',
        "x = keras.ops.convert_to_numpy(x)",
    ),
    modes={"linear": "", "cubic": ' interpolation="bicubic",'},
    padded="np.pad(x, [(0, 0), ({n}, {n}), ({n}, {n}), (0, 0)])",
    luma='(x[..., :3] * np.array([0.299, 0.587, 0.114], "float32")).sum(-1, keepdims=True)',
)
