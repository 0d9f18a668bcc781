"""Models of scikit-learn in ``ai.onnx.ml``: scalers, encoders, linear models, support vectors."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlbridge.passes.foreign.site import ML, Foreign, Results, rule

# --- what several of them share ---------------------------------------------------------------------------------------


def floats(site: Foreign, slot: int = 0) -> ir.Value:
    """An input, cast to float32 if it is not floating point."""
    x = site.operand(slot)
    is_float = site.dtype(slot).is_floating_point()
    return x if is_float else site.op("Cast", "floats", [x], to=int(ir.DataType.FLOAT))


def row(site: Foreign, what: str, numbers: object, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    """Numbers that a node states, as a constant."""
    return site.constant(what, np.asarray(numbers), dtype)


def transformed(site: Foreign, scores: ir.Value) -> ir.Value:
    """Apply the node's ``post_transform`` to the scores."""
    kind = site.get("post_transform", "NONE")
    if kind == "LOGISTIC":
        return site.op("Sigmoid", "probabilities", [scores])
    if kind == "SOFTMAX":
        return site.op("Softmax", "probabilities", [scores], axis=-1)
    site.needs(kind == "NONE", f"its post_transform is {kind}")
    return scores


def labelled(site: Foreign, classes: ir.Value, labels: list[int]) -> ir.Value:
    """The labels for class indices."""
    if labels == list(range(len(labels))):
        return site.op("Identity", "labels", [classes])
    return site.op("Gather", "labels", [row(site, "labels_of_classes", labels, ir.DataType.INT64), classes], axis=0)


def integer_labels(site: Foreign, name: str) -> list[int]:
    """The labels that a classifier states under a name.

    Raises:
        CannotReadError: When they are strings.
    """
    labels = site.get(name)
    why = "its labels are strings, which no framework has; end at its scores: --until and the name of that output"
    site.needs(labels is not None, why)
    return [int(label) for label in labels]


# --- scalers ----------------------------------------------------------------------------------------------------------


@rule("Scaler", domain=ML)
def _scaler(site: Foreign) -> Results:
    x = site.op("Sub", "centred", [floats(site), row(site, "offset", site.get("offset"))])
    return site.op("Mul", "scaled", [x, row(site, "scale", site.get("scale"))])


@rule("Normalizer", domain=ML)
def _normalizer(site: Foreign) -> Results:
    """Each row over its largest number, the sum of its absolute ones or its length; a row of zeros stays."""
    kind = site.get("norm", "MAX")
    x, axis = floats(site), site.constant("columns", [-1])
    reduction = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}[kind]
    norm = site.op(reduction, "norm", [x, axis], keepdims=1)
    zero, one = row(site, "zero", 0), row(site, "one", 1)
    return site.op(
        "Div", "normed", [x, site.op("Where", "norm_or_one", [site.op("Equal", "none", [norm, zero]), one, norm])]
    )


@rule("Binarizer", domain=ML)
def _binarizer(site: Foreign) -> Results:
    above = site.op("Greater", "above", [floats(site), row(site, "threshold", site.get("threshold", 0.0))])
    return site.op("Cast", "binary", [above], to=int(ir.DataType.FLOAT))


@rule("Imputer", domain=ML)
def _imputer(site: Foreign) -> Results:
    values, replaced = site.get("imputed_value_floats"), site.get("replaced_value_float", 0.0)
    site.needs(values is not None, "it fills in integers")
    x = floats(site)
    if np.isnan(replaced):
        missing = site.op("IsNaN", "missing", [x])
    else:
        missing = site.op("Equal", "missing", [x, row(site, "replaced", replaced)])
    return site.op("Where", "filled", [missing, row(site, "values", list(values)), x])


# --- encoders ---------------------------------------------------------------------------------------------------------


@rule("OneHotEncoder", domain=ML)
def _one_hot(site: Foreign) -> Results:
    categories = site.get("cats_int64s")
    site.needs(categories is not None, "its categories are strings")
    site.needs(site.get("zeros", 1), "it fails at a category that it does not know")
    whole = site.op("Cast", "integers", [site.x], to=int(ir.DataType.INT64))
    known = row(site, "categories", list(categories), ir.DataType.INT64)
    is_that = site.op("Equal", "is_that", [site.with_axes(whole, "column", -1), known])
    return site.op("Cast", "one_hot", [is_that], to=int(ir.DataType.FLOAT))


@rule("LabelEncoder", domain=ML)
def _label_encoder(site: Foreign) -> Results:
    """Map each known number to its label, and all others to the default."""
    types = {"int64s": ir.DataType.INT64, "floats": ir.DataType.FLOAT}
    keys = [(site.get(f"keys_{name}"), dtype) for name, dtype in types.items() if site.get(f"keys_{name}")]
    values = [(site.get(f"values_{name}"), name, dtype) for name, dtype in types.items() if site.get(f"values_{name}")]
    site.needs(keys and values, "it encodes strings, or tensors")
    (known, key_type), (numbers, name, dtype) = keys[0], values[0]
    site.needs(not any(np.isnan(key) for key in known), "it knows NaN")
    default = site.get("default_int64", -1) if name == "int64s" else site.get("default_float", -0.0)
    is_that = site.op(
        "Equal", "is_that", [site.with_axes(site.x, "column", -1), row(site, "keys", list(known), key_type)]
    )
    hits = site.op("Cast", "hits", [is_that], to=int(ir.DataType.INT64))
    # a last column that wins where no key is the number: argmax takes the first of equals
    place = site.op("ArgMax", "place", [hits], axis=-1, keepdims=0)
    found = site.op("ReduceMax", "found", [hits, site.constant("keys_axis", [-1])], keepdims=0)
    is_known = site.op("Cast", "is_known", [found], to=int(ir.DataType.BOOL))
    value = site.op("Gather", "value", [row(site, "values", list(numbers), dtype), place], axis=0)
    return site.op("Where", "encoded", [is_known, value, row(site, "default", default, dtype)])


@rule("FeatureVectorizer", domain=ML)
def _features(site: Foreign) -> Results:
    return site.op("Concat", "features", [floats(site, slot) for slot in range(len(site.node.inputs))], axis=-1)


@rule("ArrayFeatureExtractor", domain=ML)
def _some_columns(site: Foreign) -> Results:
    places = site.reshaped(site.operand(1), "columns", -1)
    found = site.op("Gather", "chosen", [site.x, places], axis=-1)
    return found if site.known_rank() > 1 else site.with_axes(found, "row", 0)


# --- linear models ----------------------------------------------------------------------------------------------------


@rule("LinearRegressor", domain=ML)
def _linear_regressor(site: Foreign) -> Results:
    return transformed(site, _linear(site, site.get("targets", 1)))


@rule("LinearClassifier", domain=ML)
def _linear_classifier(site: Foreign) -> Results:
    labels = integer_labels(site, "classlabels_ints")
    count = len(site.get("intercepts") or labels)
    site.needs(count == len(labels), "it has one score for two classes")
    scores = _linear(site, count)
    classes = site.op("ArgMax", "classes", [scores], axis=-1, keepdims=0)
    return labelled(site, classes, labels), transformed(site, scores)


def _linear(site: Foreign, count: int) -> ir.Value:
    """The input times a matrix that is stated row by row."""
    matrix = np.asarray(site.get("coefficients"), np.float32).reshape(count, -1)
    weight = site.rewriter.add_initializer(
        site.rewriter.value_name(f"{site.name}.weight"), ir.tensor(matrix), kind="parameter"
    )
    inputs = [floats(site), weight]
    if site.get("intercepts"):
        name = site.rewriter.value_name(f"{site.name}.bias")
        intercepts = np.asarray(site.get("intercepts"), np.float32)
        inputs.append(site.rewriter.add_initializer(name, ir.tensor(intercepts), kind="parameter"))
    return site.op("Gemm", "linear", inputs, transB=1)


# --- support vectors --------------------------------------------------------------------------------------------------


@rule("SVMRegressor", domain=ML)
def _support_vectors(site: Foreign) -> Results:
    """The sum over the support vectors of coefficient times kernel."""
    x, coefficients = floats(site), np.asarray(site.get("coefficients"), np.float32)
    count = site.get("n_supports", 0)
    if count:
        vectors = np.asarray(site.get("support_vectors"), np.float32).reshape(count, -1)
        near = _kernel(site, x, vectors)
    else:
        near = x
    weights = row(site, "weights", coefficients.reshape(-1, 1))
    y = site.op("Add", "score", [site.op("MatMul", "sum", [near, weights]), row(site, "rho", [site.get("rho")[0]])])
    if not site.get("one_class", 0):
        return transformed(site, y)
    is_inside = site.op("Greater", "inside", [y, row(site, "border", 0)])
    return site.op("Where", "side", [is_inside, row(site, "in", 1), row(site, "out", -1)])


def _kernel(site: Foreign, x: ir.Value, vectors: np.ndarray) -> ir.Value:
    """The kernel between each row of ``x`` and each support vector."""
    kind = site.get("kernel_type", "LINEAR")
    gamma, offset, degree = site.get("kernel_params") or (0.0, 0.0, 0.0)
    if kind == "RBF":
        apart = site.op("Sub", "apart", [site.with_axes(x, "each", 1), row(site, "vectors", vectors)])
        distance = site.op("ReduceSumSquare", "distance", [apart, site.constant("features", [-1])], keepdims=0)
        return site.op("Exp", "near", [site.op("Mul", "scaled", [distance, row(site, "gamma", -gamma)])])
    product = site.op("MatMul", "products", [x, row(site, "vectors", vectors.T)])
    if kind == "LINEAR":
        return product
    scaled = site.op("Mul", "scaled", [product, row(site, "gamma", gamma)])
    moved = site.op("Add", "moved", [scaled, row(site, "coef0", offset)])
    if kind == "POLY":
        return site.op("Pow", "power", [moved, row(site, "degree", degree)])
    site.needs(kind == "SIGMOID", f"its kernel is {kind}")
    return site.op("Tanh", "near", [moved])
