"""Cases of ``keras.ops.image``, of losses, and of windows, for ``test_reads_keras_ops``: name -> (function, inputs)."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

F, INT = "float32", "int32"
IMAGE = ((6, 8, 3), F)
COLOUR = ((6, 8, 3), "positive")
FIRST = ((3, 6, 8), F)
FIRST_COLOUR = ((3, 6, 8), "positive")
LOGITS = ((4, 5), F)
LABELS = ((4,), INT)

NUMBERS = ((8,), F)
POINTS = ((4, 2), F)
UNMOVED = np.array([1, 0, 0, 0, 1, 0, 0, 0], F)
TURN = np.array([0.8, -0.4, 1.3, 0.5, 0.9, -1.7, 0.01, -0.02], F)
CORNERS = np.array([[0, 0], [7, 0], [0, 5], [7, 5]], F)
MOVED = np.array([[0.4, -0.3], [6.2, 0.7], [-0.6, 4.1], [7.9, 5.3]], F)
PLACES = np.array([[0, 1, 0, 1, 1], [0.3, 4.2, -3.7, 7.4, 10.2], [6.1, -2.5, 9.3, 14.6, 3.9]], F)


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
    "categorical_crossentropy of a softmax in keras.losses": (
        lambda x, y: keras.losses.categorical_crossentropy(ops.one_hot(x, 5), ops.softmax(30 * y)),
        LABELS,
        LOGITS,
    ),
    "categorical_crossentropy of a softmax without gradient": (
        lambda x, y: ops.categorical_crossentropy(ops.one_hot(x, 5), ops.stop_gradient(ops.softmax(30 * y))),
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
    "affine_transform": (lambda x: ops.image.affine_transform(x, TURN), IMAGE),
    "affine_transform of each": (
        lambda x, t: ops.image.affine_transform(x, 0.1 * t + UNMOVED, fill_value=0.5),
        IMAGE,
        NUMBERS,
    ),
    "affine_transform channels first": (
        lambda x: ops.image.affine_transform(
            x, TURN[None], interpolation="nearest", fill_value=-1.5, data_format="channels_first"
        ),
        FIRST,
    ),
    "affine_transform of one": (one(lambda x: ops.image.affine_transform(x, TURN, fill_mode="nearest")), IMAGE),
    "affine_transform of integers": (
        lambda x: ops.image.affine_transform(50 * x, TURN, fill_value=7.5),
        ((6, 8, 3), INT),
    ),
    "affine_transform of nearest integers": (
        lambda x: ops.image.affine_transform(x, TURN, "nearest", fill_value=9),
        ((6, 8, 3), INT),
    ),
    "affine_transform through infinity": (
        lambda x: ops.image.affine_transform(x, np.array([1, 0, 0, 0, 1, 0, -0.25, 0], F), fill_value=2.0),
        IMAGE,
    ),
    "perspective_transform": (lambda x: ops.image.perspective_transform(x, CORNERS, MOVED), IMAGE),
    "perspective_transform channels first": (
        lambda x: ops.image.perspective_transform(
            x, MOVED, CORNERS, interpolation="nearest", fill_value=0.3, data_format="channels_first"
        ),
        FIRST,
    ),
    "perspective_transform of one": (one(lambda x: ops.image.perspective_transform(x, CORNERS, MOVED)), IMAGE),
    "perspective_transform of each": (
        lambda x, p: ops.image.perspective_transform(x, 0.2 * p + CORNERS, -0.2 * p + CORNERS),
        IMAGE,
        POINTS,
    ),
    "scale_and_translate": (
        lambda x: ops.image.scale_and_translate(
            x, (None, 9, 5, 3), np.array([1.5, 0.6], F), np.array([0.3, -0.2], F), (1, 2), "linear"
        ),
        IMAGE,
    ),
    "scale_and_translate without antialias": (
        lambda x: ops.image.scale_and_translate(
            x, (None, 4, 8, 3), np.array([0.5], F), np.array([0.1], F), (-3,), "cubic", antialias=False
        ),
        IMAGE,
    ),
    "scale_and_translate lanczos": (
        lambda x: ops.image.scale_and_translate(
            x, (None, 4, 12, 3), np.array([1.5, 0.7]), np.array([0.0, 0.2]), (2, 1), "lanczos5"
        ),
        IMAGE,
    ),
    "scale_and_translate beyond the edges": (
        lambda x: ops.image.scale_and_translate(
            x, (None, 9, 11, 3), np.array([0.4, 0.8], F), np.array([2.0, 1.5], F), (1, 2), "cubic"
        ),
        IMAGE,
    ),
    "scale_and_translate by tensors": (
        lambda x, s: ops.image.scale_and_translate(
            x, (None, 9, 5, 3), 1 + ops.max(ops.abs(s), axis=0), ops.min(s, axis=0), (1, 2), "lanczos3"
        ),
        IMAGE,
        ((2,), F),
    ),
}
for _mode in ("nearest", "wrap", "reflect"):
    for _how in ("nearest", "bilinear"):
        CASES[f"affine_transform {_mode} {_how}"] = (
            lambda x, t, how=_how, mode=_mode: ops.image.affine_transform(
                x, t * np.array([1, 1, 9, 1, 1, 9, 0.01, 0.01], F) + UNMOVED, how, mode
            ),
            IMAGE,
            NUMBERS,
        )
for _mode in ("constant", "nearest", "wrap", "mirror", "reflect"):
    for _order in (0, 1):
        CASES[f"map_coordinates {_mode} {_order}"] = (
            lambda x, order=_order, mode=_mode: ops.image.map_coordinates(x, PLACES, order, mode, fill_value=0.5),
            ((6, 8), F),
        )
        if _mode != "mirror":  # Keras' reads beyond the end at some places
            CASES[f"map_coordinates {_mode} {_order} by tensors"] = (
                lambda x, c, order=_order, mode=_mode: ops.image.map_coordinates(
                    x, ops.stack([ops.max(c, axis=0), 6 * ops.min(c, axis=0), 9 * ops.max(c, axis=0)]), order, mode
                ),
                ((6, 8), F),
                ((5, 7), F),
            )
CASES |= {
    "map_coordinates": (
        lambda x: ops.image.map_coordinates(x, np.array([[0.0, 1.0], [0.5, 2.5], [1.5, 6.9]], F), 1),
        ((6, 8), F),
    ),
    "map_coordinates of integers": (
        lambda x: ops.image.map_coordinates(20 * x, np.array([[[0.0, 1.0]], [[0.3, 2.6]], [[1.5, 6.9]]], F), 1),
        ((6, 8), INT),
    ),
    "map_coordinates at integers": (
        lambda x, i: ops.image.map_coordinates(x, ops.stack([i // 3, i - 1, 2 * i]), 0, "reflect"),
        ((6, 8), F),
        ((4,), INT),
    ),
}
