"""Short functions for what JAX and Flax have no single call for; the writer copies those that a model uses.

A module here imports only what a written file does: math, jax, jnp, np and nnx.
"""

from dlbridge.ops import special
from dlbridge.source.arrays import helpers as arrays
from dlbridge.source.arrays.spelling import Spelling

#: Modules elsewhere that are copied from too: helpers over arrays, and formulas of special functions.
ALSO = (arrays, special)

_OWN = ("split_heads", "merge_heads", "moments", "batch_normalization", "conv", "depthwise_conv")
_OWN += ("scatter_update", "while_loop", "fft")
_NN = ("sigmoid", "softmax", "log_softmax", "relu", "softplus", "silu", "elu", "leaky_relu", "one_hot", "logsumexp")
_LAX = ("cond", "erf", "erfc", "rsqrt", "scan", "stop_gradient", "top_k")
#: How they are spelled here: as ``jnp`` has it, but for these.
SPELLING = Spelling(
    "jnp.",
    {
        "average_pool": "nnx.avg_pool",
        "broadcast_add": "jnp.add",
        "cast": "jnp.astype",
        "convert_to_numpy": "np.asarray",
        "convert_to_tensor": "jnp.asarray",
        "det": "jnp.linalg.det",
        "erfinv": "jax.lax.erf_inv",
        "precise": "float",
        "segment_sum": "jax.ops.segment_sum",
        "softsign": "nnx.soft_sign",
        "standardize_dtype": "str",
        "view": "jax.lax.bitcast_convert_type",
    }
    | {name: name for name in _OWN}
    | {name: f"nnx.{name}" for name in _NN}
    | {name: f"jax.lax.{name}" for name in _LAX},
    {
        "as_index(x)": 'jnp.astype({x}, "int32")',
        "is_float(dtype)": '{dtype}.startswith("float")',
        "is_boolean(x)": "{x}.dtype == bool",
        "number(n, x.dtype)": "jnp.asarray({n}, {x}.dtype)",
        "places(count, x)": 'jnp.arange({count}, dtype="int32")',
    },
)
