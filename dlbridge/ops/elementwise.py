"""The elementwise ops of the standard: layout, shape inference and the writers ask here what they are."""

from __future__ import annotations

#: Op of one tensor -> the function that computes it, as ``keras.ops`` calls it.
UNARY_FUNCTIONS = {
    "Abs": "abs",
    "Acos": "arccos",
    "Acosh": "arccosh",
    "Asin": "arcsin",
    "Asinh": "arcsinh",
    "Atan": "arctan",
    "Atanh": "arctanh",
    "BitwiseNot": "bitwise_not",
    "Ceil": "ceil",
    "Cos": "cos",
    "Cosh": "cosh",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "IsNaN": "isnan",
    "Log": "log",
    "Neg": "negative",
    "Not": "logical_not",
    "Reciprocal": "reciprocal",
    "Round": "round",
    "Sign": "sign",
    "Sin": "sin",
    "Sinh": "sinh",
    "Sqrt": "sqrt",
    "Tan": "tan",
}

#: The same of two tensors that broadcast.
BINARY_FUNCTIONS = {
    "And": "logical_and",
    "BitwiseAnd": "bitwise_and",
    "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor",
    "Or": "logical_or",
    "Xor": "logical_xor",
}

#: Of one tensor (further inputs are numbers), whatever the order of its axes.
UNARY_OPS = {
    *UNARY_FUNCTIONS,
    *("BitCast", "Cast", "Celu", "Clip", "Dropout", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf"),
    *("LeakyRelu", "Mish", "Relu", "Selu", "Shrink", "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh"),
    "ThresholdedRelu",
}

#: Of several tensors that broadcast.
BROADCASTING_OPS = {
    *BINARY_FUNCTIONS,
    *("Add", "BitShift", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min"),
    *("Mod", "Mul", "Pow", "PRelu", "Sub", "Sum", "Where"),
}
