"""Ensembles of decision trees in ``ai.onnx.ml``, as a walk down all trees at once.

The nodes of all trees are rows of one table. A matrix (rows, trees) holds the node at which each row of the input is in
each tree. It starts at the roots; each step goes from a node to one of its children, or stays at a leaf, and there are
as many steps as the deepest tree has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlbridge.passes.foreign.learned import floats, integer_labels, labelled, row, transformed
from dlbridge.passes.foreign.site import ML, CannotReadError, Foreign, Results, rule

#: Mode of a node -> the op that tells whether to take the true branch.
_MODES = {
    "BRANCH_LEQ": "LessOrEqual",
    "BRANCH_LT": "Less",
    "BRANCH_GTE": "GreaterOrEqual",
    "BRANCH_GT": "Greater",
    "BRANCH_EQ": "Equal",
}
#: The modes as ``TreeEnsemble`` numbers them.
_NUMBERED = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


@dataclass
class _Forest:
    """The nodes of all trees.

    Attributes:
        roots: The first node of each tree.
        feature: The column that a node looks at.
        threshold: What it compares that with.
        true, false: The children; a leaf is its own child.
        tracks: Whether a missing value takes the true branch.
        values: What a leaf adds to each of the targets, (nodes, targets); zeros of other nodes.
        modes: How the nodes that are no leaves compare.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    true: np.ndarray
    false: np.ndarray
    tracks: np.ndarray
    values: np.ndarray
    modes: set[str]

    def depth(self) -> int:
        """How many steps the longest way from a root takes.

        Raises:
            CannotReadError: When a node is below itself, or below no root.
        """
        here, steps = np.unique(self.roots), 0
        reached = np.zeros(len(self.true), bool)
        while steps <= len(self.true):
            reached[here] = True
            inner = here[(self.true[here] != here) | (self.false[here] != here)]
            if not len(inner):
                break
            steps += 1
            here = np.unique(np.concatenate([self.true[inner], self.false[inner]]))
        if not reached.all() or steps > len(self.true):
            raise CannotReadError("its nodes are no trees")
        return steps


# --- what nodes state -------------------------------------------------------------------------------------------------


def _numbers(site: Foreign, name: str) -> np.ndarray | None:
    """Numbers that a node states as a list, or as a tensor (in float64 then)."""
    tensor, given = site.get(f"{name}_as_tensor"), site.get(name)
    if tensor is not None:
        return np.asarray(tensor.numpy())
    return None if given is None else np.asarray(given, np.float32)


def _stated(site: Foreign, of: str, targets: int) -> _Forest:
    """The forest of a classifier or regressor; ``of`` begins the names of what its leaves add."""
    trees, ids = (np.asarray(site.get(f"nodes_{name}"), np.int64) for name in ("treeids", "nodeids"))
    place = {(tree, node): index for index, (tree, node) in enumerate(zip(trees.tolist(), ids.tolist(), strict=True))}
    modes = [str(mode) for mode in site.get("nodes_modes")]
    count = len(modes)
    own = np.arange(count)
    is_leaf = np.array([mode == "LEAF" for mode in modes])
    children = []
    for name in ("truenodeids", "falsenodeids"):
        below = site.get(f"nodes_{name}")
        found = [own[i] if is_leaf[i] else place[int(trees[i]), int(below[i])] for i in range(count)]
        children.append(np.asarray(found, np.int64))
    threshold, weights = _numbers(site, "nodes_values"), _numbers(site, f"{of}_weights")
    site.needs(threshold is not None and weights is not None, "its thresholds or weights are missing")
    assert threshold is not None and weights is not None
    values = np.zeros((count, targets), weights.dtype)
    for tree, node, target, weight in zip(
        *(site.get(f"{of}_{name}") for name in ("treeids", "nodeids", "ids")), weights, strict=True
    ):
        values[place[int(tree), int(node)], int(target)] += weight
    tracks = np.asarray(site.get("nodes_missing_value_tracks_true") or np.zeros(count), bool)
    is_child = np.zeros(count, bool)
    for below in children:
        is_child[below[~is_leaf]] = True
    site.needs((~is_child).sum() == len(np.unique(trees)), "its nodes are no trees")
    kinds = {mode for mode in modes if mode != "LEAF"}
    feature = np.asarray(site.get("nodes_featureids"), np.int64)
    return _Forest(own[~is_child], feature, threshold, children[0], children[1], tracks, values, kinds)


# --- the walk ---------------------------------------------------------------------------------------------------------


def _sums(site: Foreign, forest: _Forest, how: str) -> ir.Value:
    """The sum of the leaves that each row of the input reaches, (rows, targets)."""
    holder = site.rewriter.value_name("trees")
    leaves = _walk(site, forest, holder)
    given = site.op("Gather", "of_leaves", [_table(site, f"{holder}.leaf_values", forest.values), leaves], axis=0)
    kinds = {"SUM": "ReduceSum", "AVERAGE": "ReduceSum", "MIN": "ReduceMin", "MAX": "ReduceMax"}
    site.needs(how in kinds, f"it aggregates by {how}")
    total = site.op(kinds[how], "together", [given, site.constant("trees_axis", [1])], keepdims=0)
    if how != "AVERAGE":
        return total
    count = row(site, "tree_count", len(forest.roots), ir.DataType.from_numpy(forest.values.dtype))
    return site.op("Div", "average", [total, count])


def _table(site: Foreign, name: str, numbers: np.ndarray) -> ir.Value:
    """A column of the table of nodes, as a buffer of the model."""
    return site.rewriter.add_initializer(name, ir.tensor(np.ascontiguousarray(numbers), name=name), kind="buffer")


def _walk(site: Foreign, forest: _Forest, holder: str) -> ir.Value:
    """The leaves that each row of the input reaches, (rows, trees); the tables are named in ``holder``."""
    site.needs(len(forest.modes) <= 1 and forest.modes <= set(_MODES), "its nodes do not all compare alike")
    x = floats(site)
    rows = site.op("Concat", "places_shape", [site.size_of(x, 0, "rows"), site.constant("any", [1])], axis=0)
    here = site.op("Expand", "at_roots", [_table(site, f"{holder}.roots", forest.roots), rows])
    if not forest.modes:
        return here
    wide = forest.threshold.astype((x.dtype or ir.DataType.FLOAT).numpy())
    columns = {"feature": forest.feature, "threshold": wide, "true_child": forest.true, "false_child": forest.false}
    if forest.tracks.any():
        columns["missing_is_true"] = forest.tracks
    tables = {what: _table(site, f"{holder}.{what}", numbers) for what, numbers in columns.items()}
    body = _step(x, tables, _MODES[next(iter(forest.modes))])
    # the standard lets the condition be left out; its reference evaluator then takes no step
    inputs = [site.constant("depth", forest.depth()), site.constant("always", True, ir.DataType.BOOL), here]
    return site.rewriter.insert(site.node, "Loop", "", inputs, {"body": body}, name=f"{holder}_walk").outputs[0]


def _step(x: ir.Value, tables: dict[str, ir.Value], compare: str) -> ir.Graph:
    """One step down: the body of a loop."""
    count = ir.Value(name="step", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
    goes_on = ir.Value(name="goes_on", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
    here = ir.Value(name="here", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([None, None]))
    nodes: list[ir.Node] = []

    def op(op_type: str, name: str, inputs: Sequence[ir.Value], **attributes: int) -> ir.Value:
        nodes.append(ir.node(op_type, inputs, attributes, name=name))
        nodes[-1].outputs[0].name = name
        return nodes[-1].outputs[0]

    def of_here(what: str) -> ir.Value:
        return op("Gather", f"{what}_here", [tables[what], here], axis=0)

    value = op("GatherElements", "value", [x, of_here("feature")], axis=1)
    is_true = op(compare, "is_true", [value, of_here("threshold")])
    if "missing_is_true" in tables:
        missing = op("And", "is_missing", [op("IsNaN", "is_nan", [value]), of_here("missing_is_true")])
        is_true = op("Or", "takes_true", [is_true, missing])
    below = op("Where", "below", [is_true, of_here("true_child"), of_here("false_child")])
    kept = op("Identity", "still", [goes_on])
    return ir.Graph([count, goes_on, here], [kept, below], nodes=nodes, name="step_down")


# --- regressors and classifiers ---------------------------------------------------------------------------------------


@rule("TreeEnsembleRegressor", domain=ML)
def _regressor(site: Foreign) -> Results:
    forest = _stated(site, "target", site.get("n_targets", 1))
    y = _based(site, _sums(site, forest, site.get("aggregate_function", "SUM")))
    return transformed(site, y)


@rule("TreeEnsembleClassifier", domain=ML)
def _classifier(site: Foreign) -> Results:
    labels = integer_labels(site, "classlabels_int64s")
    forest = _stated(site, "class", len(labels))
    stated = sorted(set(site.get("class_ids")))
    if len(labels) == 2 and len(stated) == 1:
        return _of_two(site, forest, stated[0], labels)
    site.needs(len(labels) > 2, "it has scores for both of two classes")
    scores = _based(site, _sums(site, forest, "SUM"))
    classes = site.op("ArgMax", "classes", [scores], axis=-1, keepdims=0)
    return labelled(site, classes, labels), transformed(site, scores)


def _of_two(site: Foreign, forest: _Forest, column: int, labels: list[int]) -> Results:
    """One score for two classes: a probability where no leaf gives less than nothing, else one whose sign tells."""
    are_positive = bool((forest.values >= 0).all())
    forest.values = forest.values[:, [column]]
    base = _numbers(site, "base_values")
    site.needs(base is None or len(base) == 1, "it has base values for both of two classes")
    score = _based(site, _sums(site, forest, "SUM"))
    border = row(site, "border", 0.5 if are_positive else 0.0)
    above = site.op("Squeeze", "above", [site.op("Greater", "is_second", [score, border]), site.constant("score", [1])])
    classes = site.op("Cast", "classes", [above], to=int(ir.DataType.INT64))
    if are_positive:
        first = site.op("Sub", "other", [row(site, "certain", 1), score])
        return labelled(site, classes, labels), site.op("Concat", "scores", [first, score], axis=1)
    both = site.op("Concat", "scores", [site.op("Neg", "other", [score]), score], axis=1)
    site.needs(
        site.get("post_transform", "NONE") in ("NONE", "LOGISTIC"), "its post_transform is not known for two classes"
    )
    return labelled(site, classes, labels), transformed(site, both)


def _based(site: Foreign, y: ir.Value) -> ir.Value:
    """The sums with the base values added, as float32."""
    base = _numbers(site, "base_values")
    whole = (
        y if base is None else site.op("Add", "based", [y, row(site, "base", base, ir.DataType.from_numpy(base.dtype))])
    )
    is_wide = (base is not None and base.dtype == np.float64) or site.get("target_weights_as_tensor") is not None
    return site.op("Cast", "sums", [whole], to=int(ir.DataType.FLOAT)) if is_wide else whole


@rule("TreeEnsemble", domain=ML)
def _ensemble(site: Foreign) -> Results:
    """Inner nodes and leaves are tables of their own here: the leaves come behind the nodes in ours."""
    modes = [_NUMBERED[int(mode)] for mode in site.get("nodes_modes").numpy()]
    inner, weights = len(modes), site.get("leaf_weights").numpy()
    leaves, targets = len(weights), site.get("n_targets") or 1
    children = []
    for side in ("true", "false"):
        below, at_leaf = np.asarray(site.get(f"nodes_{side}nodeids")), np.asarray(site.get(f"nodes_{side}leafs"), bool)
        children.append(np.concatenate([np.where(at_leaf, below + inner, below), inner + np.arange(leaves)]))
    values = np.zeros((inner + leaves, targets), weights.dtype)
    values[inner + np.arange(leaves), np.asarray(site.get("leaf_targetids"))] = weights
    nothing = np.zeros(leaves)
    splits = np.concatenate([site.get("nodes_splits").numpy(), nothing]).astype(weights.dtype)
    feature = np.concatenate([np.asarray(site.get("nodes_featureids")), nothing]).astype(np.int64)
    tracks = np.concatenate([site.get("nodes_missing_value_tracks_true") or np.zeros(inner), nothing]).astype(bool)
    roots = np.asarray(site.get("tree_roots"), np.int64)
    forest = _Forest(roots, feature, splits, children[0], children[1], tracks, values, set(modes))
    y = _sums(site, forest, _AGGREGATES[site.get("aggregate_function", 1)])
    transform = _TRANSFORMS[site.get("post_transform", 0)]
    site.needs(transform in ("NONE", "SOFTMAX", "LOGISTIC"), f"its post_transform is {transform}")
    if transform == "SOFTMAX":
        return site.op("Softmax", "probabilities", [y], axis=-1)
    return y if transform == "NONE" else site.op("Sigmoid", "probabilities", [y])
