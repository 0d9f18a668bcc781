"""Short functions for what PyTorch has no single call for; the writer copies those that a model uses into its file.

A module here imports only what a written file does: math, torch, F and nn.
"""

from dlbridge.source.arrays.helpers import (
    attention,
    attention_formula,
    convolution,
    image,
    indexing,
    quantization,
    recurrent,
    resize,
    shape,
    signal,
)
from dlbridge.source.arrays.spelling import Spelling

#: Modules elsewhere that are copied from too: helpers over arrays that PyTorch has in the same words.
ALSO = (attention, attention_formula, convolution, image, indexing, quantization, recurrent, resize, shape, signal)

#: What is called so in ``keras.ops`` too.
_TORCH = ("logical_and", "logical_or", "matmul", "ones_like", "relu", "sigmoid", "stack", "tanh", "where", "zeros_like")
_F = ("elu", "leaky_relu", "silu", "softplus", "softsign")
#: What is a method of tensors, and takes the same arguments.
_METHODS = ("floor", "ceil", "abs", "exp", "log", "argsort", "round")
#: How they are spelled here.
SPELLING = Spelling(
    "torch.",
    {
        "arccos": "torch.acos",
        "arccosh": "torch.acosh",
        "arcsin": "torch.asin",
        "arcsinh": "torch.asinh",
        "arctan": "torch.atan",
        "arctanh": "torch.atanh",
        "array": "torch.tensor",
        "clip": "torch.clamp",
        "det": "torch.linalg.det",
        "equal": "torch.eq",
    }
    | {name: f"torch.{name}" for name in _TORCH}
    | {name: f"F.{name}" for name in _F},
    {f"{name}(x)": f"{{x}}.{name}()" for name in _METHODS}
    | {
        "all(x, axis=axis)": "{x}.all({axis})",
        "arange(count, dtype=x.dtype)": "torch.arange({count}, dtype={x}.dtype, device={x}.device)",
        "array(numbers, dtype=dtype)": "torch.tensor({numbers}, dtype={dtype})",
        "as_index(x)": "{x}.long()",
        "broadcast_to(x, shape)": "{x}.expand({shape})",
        "cast(x, dtype)": "{x}.to({dtype})",
        "clip(x, low, high)": "{x}.clamp({low}, {high})",
        "concatenate(parts)": "torch.cat({parts})",
        "concatenate(parts, axis=axis)": "torch.cat({parts}, {axis})",
        "convert_to_numpy(x)": "{x}",
        "cumsum(x, axis=axis)": "{x}.cumsum({axis})",
        "expand_dims(x, axis)": "{x}.unsqueeze({axis})",
        "full(shape, value, dtype=x.dtype)": "{x}.new_full({shape}, {value})",
        "is_float(dtype)": "{dtype}.is_floating_point",
        "is_boolean(x)": "{x}.dtype == torch.bool",
        "max(x)": "{x}.amax()",
        "max(x, axis=axis)": "{x}.amax({axis})",
        "max(x, axis=axis, keepdims=keep)": "{x}.amax({axis}, keepdim={keep})",
        "maximum(x, limit)": "{x}.clamp(min={limit})",
        "mean(x, axis=axis)": "{x}.mean({axis})",
        "merge_heads(x)": "{x}.transpose(1, 2).flatten(2)",
        "min(x)": "{x}.amin()",
        "minimum(x, limit)": "{x}.clamp(max={limit})",
        "moveaxis(x, before, after)": "{x}.movedim({before}, {after})",
        "nonzero(x)": "{x}.nonzero(as_tuple=True)",
        "number(n, x.dtype)": "{n}",
        "pad(x, pairs)": "F.pad({x}, [n for pair in reversed({pairs}) for n in pair])",
        "places(count, x)": "torch.arange({count}, device={x}.device)",
        "precise(n)": "{n}",
        "repeat(x, count, axis=axis)": "{x}.repeat_interleave({count}, {axis})",
        "ones_like(x, dtype=dtype)": "torch.ones_like({x}, dtype={dtype})",
        "reshape(x, shape)": "{x}.reshape({*shape})",
        "segment_sum(x, at, num_segments=count)": "{x}.new_zeros({count}, {x}.shape[1]).index_add(0, {at}, {x})",
        "shape(x)": "{x}.shape",
        "softmax(x)": "{x}.softmax(-1)",
        "split(x, count)": "{x}.chunk({count})",
        "split(x, count, axis=axis)": "{x}.chunk({count}, {axis})",
        "split_heads(x, heads)": "{x}.unflatten(-1, ({heads}, -1)).transpose(1, 2)",
        "stack(parts, axis=axis)": "torch.stack({parts}, {axis})",
        "standardize_dtype(x.dtype)": "{x}.dtype",
        "stop_gradient(x)": "{x}.detach()",
        "sum(x, axis=axis)": "{x}.sum({axis})",
        "swapaxes(x, a, b)": "{x}.transpose({a}, {b})",
        "take(x, at, axis=0)": "{x}[{at}]",
        "take(x, at, axis=axis)": "{x}.index_select({axis}, {at})",
        "take_along_axis(x, at, axis=axis)": "torch.take_along_dim({x}, {at}, {axis})",
        "transpose(x)": "{x}.T",
        "transpose(x, axes)": "{x}.permute({*axes})",
        "zeros(shape, x.dtype)": "{x}.new_zeros({shape})",
        "zeros(shape, dtype=x.dtype)": "{x}.new_zeros({shape})",
        "zeros_like(x, dtype=dtype)": "torch.zeros_like({x}, dtype={dtype})",
    },
    dtypes="torch.",
    only_named=True,
)
