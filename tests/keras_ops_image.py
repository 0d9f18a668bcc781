"""Cases of ``keras.ops.image``, of losses, and of windows, for ``test_reads_keras_ops``: name -> (function, inputs)."""

from __future__ import annotations

import keras
from keras import ops

F, INT = "float32", "int32"
IMAGE = ((6, 8, 3), F)
COLOUR = ((6, 8, 3), "positive")
FIRST = ((3, 6, 8), F)
FIRST_COLOUR = ((3, 6, 8), "positive")
LOGITS = ((4, 5), F)
LABELS = ((4,), INT)


def share(x):
    """Numbers between 0 and 1, which Keras cannot trace back to logits."""
    return x * x / (1 + x * x)


def one(function):
    """What a function makes of a single image: the brightest of the batch at each place."""
    return lambda x: ops.expand_dims(function(ops.max(x, axis=0)), 0)


CASES: dict[str, tuple] = {
    "rgb_to_hsv": (ops.image.rgb_to_hsv, COLOUR),
    "rgb_to_hsv of any numbers": (ops.image.rgb_to_hsv, IMAGE),
    "rgb_to_hsv of greys": (lambda x: ops.image.rgb_to_hsv(ops.floor(x * 1.5)), COLOUR),
    "rgb_to_hsv channels first": (lambda x: ops.image.rgb_to_hsv(x, data_format="channels_first"), FIRST_COLOUR),
    "rgb_to_hsv of one": (one(ops.image.rgb_to_hsv), COLOUR),
    "hsv_to_rgb": (lambda x: ops.image.hsv_to_rgb(share(x)), IMAGE),
    "hsv_to_rgb of any numbers": (ops.image.hsv_to_rgb, IMAGE),
    "hsv_to_rgb channels first": (lambda x: ops.image.hsv_to_rgb(share(x), data_format="channels_first"), FIRST),
    "hsv_to_rgb of one": (one(ops.image.hsv_to_rgb), IMAGE),
    "gaussian_blur": (ops.image.gaussian_blur, IMAGE),
    "gaussian_blur of another shape": (lambda x: ops.image.gaussian_blur(x, (3, 5), (0.7, 2.0)), IMAGE),
    "gaussian_blur of even size": (lambda x: ops.image.gaussian_blur(x, (4, 2), (1.0, 2.0)), IMAGE),
    "gaussian_blur channels first": (
        lambda x: ops.image.gaussian_blur(x, (5, 3), (1.0, 0.5), data_format="channels_first"),
        FIRST,
    ),
    "gaussian_blur of one": (one(ops.image.gaussian_blur), IMAGE),
    "gaussian_blur of grey": (ops.image.gaussian_blur, ((6, 8, 1), F)),
    "sobel_edges": (ops.image.sobel_edges, IMAGE),
    "sobel_edges channels first": (lambda x: ops.image.sobel_edges(x, data_format="channels_first"), FIRST),
    "ssim": (lambda x: ops.image.ssim(x, ops.flip(x, 1) + x, filter_size=3), COLOUR),
    "ssim of two": (
        lambda x, y: ops.image.ssim(x, x + 0.2 * y, max_val=2.0, filter_sigma=1.0, k1=0.02, k2=0.05),
        ((12, 13, 3), F),
        ((12, 13, 3), F),
    ),
    "ssim channels first": (
        lambda x: ops.image.ssim(x, ops.abs(x), filter_size=5, data_format="channels_first"),
        FIRST,
    ),
    "ssim of one": (one(lambda x: ops.image.ssim(x, ops.abs(x), filter_size=5)), IMAGE),
    "ssim of integers": (lambda x: ops.image.ssim(x, x, max_val=255, filter_size=3), ((6, 8, 3), INT)),
    "psnr": (lambda x, y: ops.psnr(x, y, 2.0), IMAGE, IMAGE),
    "psnr of half precision": (lambda x: ops.psnr(ops.cast(x, "float16"), ops.cast(x + 1, "float16"), 1), IMAGE),
    "extract_patches_3d": (lambda x: ops.image.extract_patches_3d(x, 2), ((4, 5, 6, 2), F)),
    "extract_patches_3d same": (
        lambda x: ops.image.extract_patches_3d(x, (2, 3, 1), strides=(2, 1, 2), padding="same"),
        ((4, 5, 6, 2), F),
    ),
    "extract_patches_3d dilated": (
        lambda x: ops.image.extract_patches_3d(x, 2, strides=1, dilation_rate=2, data_format="channels_first"),
        ((2, 4, 5, 6), F),
    ),
    "extract_patches_3d of one": (one(lambda x: ops.image.extract_patches_3d(x, 2, strides=1)), ((4, 5, 6, 2), F)),
    "extract_patches of one": (one(lambda x: ops.image.extract_patches(x, 3, strides=2)), IMAGE),
    "unfold": (lambda x: ops.unfold(x, 3), FIRST),
    "unfold of all options": (
        lambda x: ops.unfold(x, (2, 3), dilation=(2, 1), padding=(1, 2), stride=(1, 2)),
        FIRST,
    ),
    "unfold of integers": (lambda x: ops.unfold(x, 2, stride=2), ((3, 6, 8), INT)),
    "fold": (lambda x: ops.fold(x, (6, 8), 3), ((27, 24), F)),
    "fold of all options": (
        lambda x: ops.fold(x, (6, 8), (2, 3), dilation=(2, 1), padding=(1, 2), stride=(1, 2)),
        ((12, 30), F),
    ),
    "binary_crossentropy": (
        lambda x, y: ops.binary_crossentropy(share(x), share(y)),
        LOGITS,
        LOGITS,
    ),
    "binary_crossentropy of certainties": (
        lambda x, y: ops.binary_crossentropy(share(x), ops.clip(y, 0, 1)),
        LOGITS,
        LOGITS,
    ),
    "binary_crossentropy from logits": (
        lambda x, y: ops.binary_crossentropy(share(x), 20 * y, from_logits=True),
        LOGITS,
        LOGITS,
    ),
    "binary_crossentropy of a sigmoid": (
        lambda x, y: ops.binary_crossentropy(share(x), ops.sigmoid(30 * y)),
        LOGITS,
        LOGITS,
    ),
    "categorical_crossentropy": (lambda x, y: ops.categorical_crossentropy(share(x), share(y)), LOGITS, LOGITS),
    "categorical_crossentropy of certainties": (
        lambda x, y: ops.categorical_crossentropy(ops.one_hot(x, 5), ops.one_hot(y, 5) + 0.0),
        LABELS,
        LABELS,
    ),
    "categorical_crossentropy from logits": (
        lambda x, y: ops.categorical_crossentropy(ops.one_hot(x, 5), 20 * y, from_logits=True),
        LABELS,
        LOGITS,
    ),
    "categorical_crossentropy along an axis": (
        lambda x, y: ops.categorical_crossentropy(share(x), share(y), axis=1),
        ((4, 4), F),
        ((4, 4), F),
    ),
    "categorical_crossentropy of a softmax": (
        lambda x, y: ops.categorical_crossentropy(ops.one_hot(x, 5), keras.layers.Softmax()(30 * y)),
        LABELS,
        LOGITS,
    ),
    "sparse_categorical_crossentropy": (
        lambda x, y: ops.sparse_categorical_crossentropy(x, share(y)),
        LABELS,
        LOGITS,
    ),
    "sparse_categorical_crossentropy from logits": (
        lambda x, y: ops.sparse_categorical_crossentropy(x, y, from_logits=True, axis=2),
        ((4, 1), INT),
        LOGITS,
    ),
    "sparse_categorical_crossentropy of a softmax": (
        lambda x, y: ops.sparse_categorical_crossentropy(x, ops.softmax(30 * y)),
        LABELS,
        LOGITS,
    ),
    "sparse_categorical_crossentropy of half precision": (
        lambda x, y: ops.sparse_categorical_crossentropy(x, ops.cast(y, "float16"), from_logits=True),
        LABELS,
        LOGITS,
    ),
}
