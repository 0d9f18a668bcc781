"""Models of scikit-learn (``ai.onnx.ml``) are read as what onnxruntime computes, into every framework's code."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import DlbridgeWarning, UnsupportedOpError
from dlbridge.frameworks.onnx import runner

_RANDOM = np.random.default_rng(0)
X = _RANDOM.standard_normal((6, 3)).astype("float32")
X[2, 1] = 0.0
_HOLES = X.copy()
_HOLES[1, 0] = _HOLES[3, 2] = np.nan
_WHOLE = np.array([[1, 2], [3, 4], [5, 1]], "int64")


def _tree(modes="BRANCH_LEQ", weights=(1.0, -2.0, 3.0, 0.5, 4.0), ids=(0, 0, 0, 0, 0), of="target", tracks=()):
    """Two trees: one of two levels, one of one."""
    return {
        "nodes_treeids": [0, 0, 0, 0, 0, 1, 1, 1],
        "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2],
        "nodes_featureids": [0, 1, 0, 0, 0, 2, 0, 0],
        "nodes_values": [0.1, 0.0, 0.0, 0.0, 0.0, -0.2, 0.0, 0.0],
        "nodes_modes": [modes, modes, "LEAF", "LEAF", "LEAF", modes, "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 3, 0, 0, 0, 1, 0, 0],
        "nodes_falsenodeids": [2, 4, 0, 0, 0, 2, 0, 0],
        f"{of}_treeids": [0, 0, 0, 1, 1],
        f"{of}_nodeids": [2, 3, 4, 1, 2],
        f"{of}_ids": list(ids),
        f"{of}_weights": list(weights),
        **({"nodes_missing_value_tracks_true": list(tracks)} if tracks else {}),
    }


_CLASSES = _tree(of="class", ids=(0, 1, 2, 1, 0), weights=(0.4, 0.3, 0.9, 0.5, 0.2))
_TENSOR = {
    "tree_roots": [0, 2],
    "nodes_modes": helper.make_tensor("modes", 2, [3], [0, 0, 0]),
    "nodes_featureids": [0, 1, 2],
    "nodes_splits": helper.make_tensor("splits", 1, [3], [0.1, 0.0, -0.2]),
    "nodes_truenodeids": [1, 0, 2],
    "nodes_trueleafs": [0, 1, 1],
    "nodes_falsenodeids": [2, 1, 3],
    "nodes_falseleafs": [1, 1, 1],
    "leaf_targetids": [0, 0, 0, 0],
    "leaf_weights": helper.make_tensor("weights", 1, [4], [1.0, -2.0, 3.0, 0.5]),
    "n_targets": 1,
}
_SUPPORT = {"coefficients": [0.5, -1.0], "support_vectors": X[:2].ravel().tolist(), "n_supports": 2, "rho": [0.3]}


def _vectors(kernel, gamma, coef0, degree):
    return {**_SUPPORT, "kernel_type": kernel, "kernel_params": [gamma, coef0, degree]}


#: name -> (op, its inputs, its attributes).
CASES = {
    "Scaler": ("Scaler", [X], {"offset": [0.1, 0.2, 0.3], "scale": [2.0, 3.0, 0.5]}),
    "Scaler of integers": ("Scaler", [_WHOLE], {"offset": [1.0], "scale": [0.5]}),
    **{f"Normalizer {norm}": ("Normalizer", [abs(X)], {"norm": norm}) for norm in ("MAX", "L1", "L2")},
    "Binarizer": ("Binarizer", [X], {"threshold": 0.2}),
    "Imputer": ("Imputer", [_HOLES], {"imputed_value_floats": [1.0, 2.0, 3.0], "replaced_value_float": float("nan")}),
    "Imputer of zeros": ("Imputer", [X], {"imputed_value_floats": [9.0], "replaced_value_float": 0.0}),
    "OneHotEncoder": ("OneHotEncoder", [_WHOLE], {"cats_int64s": [1, 3, 4], "zeros": 1}),
    "LabelEncoder": (
        "LabelEncoder",
        [_WHOLE],
        {"keys_int64s": [1, 2, 5], "values_int64s": [7, 8, 9], "default_int64": -3},
    ),
    "LabelEncoder to floats": ("LabelEncoder", [_WHOLE], {"keys_int64s": [1, 2], "values_floats": [0.5, 1.5]}),
    "FeatureVectorizer": (
        "FeatureVectorizer",
        [X, _RANDOM.standard_normal((6, 2)).astype("float32")],
        {"inputdimensions": [3, 2]},
    ),
    "LinearRegressor": (
        "LinearRegressor",
        [X],
        {"coefficients": [1.0, 2, 3, 4, 5, 6], "intercepts": [0.5, -1], "targets": 2},
    ),
    "LinearClassifier": (
        "LinearClassifier",
        [X],
        {
            "coefficients": _RANDOM.standard_normal(9).tolist(),
            "intercepts": [0.1, 0.2, -0.3],
            "classlabels_ints": [4, 7, 9],
            "post_transform": "SOFTMAX",
        },
    ),
    "SVMRegressor, linear": ("SVMRegressor", [X], _vectors("LINEAR", 0.0, 0.0, 0.0)),
    "SVMRegressor, RBF": ("SVMRegressor", [X], _vectors("RBF", 0.3, 0.0, 0.0)),
    "SVMRegressor, polynomial": ("SVMRegressor", [X], _vectors("POLY", 0.3, 1.0, 3.0)),
    "SVMRegressor, sigmoid": ("SVMRegressor", [X], _vectors("SIGMOID", 0.3, 0.1, 0.0)),
    "SVMRegressor of one class": ("SVMRegressor", [X], {**_vectors("RBF", 0.3, 0.0, 0.0), "one_class": 1}),
    **{
        f"TreeEnsembleRegressor {mode}": ("TreeEnsembleRegressor", [_HOLES], {**_tree(mode), "n_targets": 1})
        for mode in ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT", "BRANCH_GTE", "BRANCH_EQ")
    },
    **{
        f"TreeEnsembleRegressor {how}": (
            "TreeEnsembleRegressor",
            [X],
            {**_tree(), "n_targets": 1, "aggregate_function": how, "base_values": [0.25]},
        )
        for how in ("SUM", "AVERAGE", "MIN", "MAX")
    },
    "TreeEnsembleRegressor, what is missing": (
        "TreeEnsembleRegressor",
        [_HOLES],
        {**_tree(tracks=(1, 0, 0, 0, 0, 1, 0, 0)), "n_targets": 1},
    ),
    "TreeEnsembleRegressor of two": ("TreeEnsembleRegressor", [X], {**_tree(ids=(0, 1, 0, 1, 0)), "n_targets": 2}),
    "TreeEnsembleClassifier": ("TreeEnsembleClassifier", [X], {**_CLASSES, "classlabels_int64s": [3, 5, 8]}),
    "TreeEnsembleClassifier, softmax": (
        "TreeEnsembleClassifier",
        [X],
        {**_CLASSES, "classlabels_int64s": [0, 1, 2], "post_transform": "SOFTMAX"},
    ),
    "TreeEnsembleClassifier of two": (
        "TreeEnsembleClassifier",
        [X],
        {**_tree(of="class", weights=(0.1, 0.2, 0.4, 0.5, 0.3)), "classlabels_int64s": [0, 1]},
    ),
    "TreeEnsembleClassifier of two, by sign": (
        "TreeEnsembleClassifier",
        [X],
        {
            **_tree(of="class"),
            "classlabels_int64s": [0, 1],
            "post_transform": "LOGISTIC",
            "base_values": [0.1],
        },
    ),
    "TreeEnsemble": ("TreeEnsemble", [X], _TENSOR),
}


def _model(op, inputs, attributes):
    names = [f"x{i}" for i in range(len(inputs))]
    outputs = ["label", "scores"] if op.endswith("Classifier") else ["y"]
    node = helper.make_node(op, names, outputs, name="node", domain="ai.onnx.ml", **attributes)
    rows = [["rows", *a.shape[1:]] for a in inputs]
    types = [helper.np_dtype_to_tensor_dtype(a.dtype) for a in inputs]
    given = [helper.make_tensor_value_info(n, t, s) for n, t, s in zip(names, types, rows, strict=True)]
    graph = helper.make_graph([node], "g", given, [onnx.ValueInfoProto(name=o) for o in outputs])
    ml = 5 if op == "TreeEnsemble" else 3
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", ml)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9), dict(zip(names, inputs, strict=True))


def _agree(right, found):
    for wanted, got in zip(right, found, strict=True):
        got = np.asarray(got)
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_an_op_is_what_onnxruntime_computes(name):
    proto, feeds = _model(*CASES[name])
    model = dlbridge.load(proto)
    right = list(model.original(feeds).values())
    _agree(right, runner.run(runner.load(model.write("onnx")), feeds).values())
    with torch.no_grad():
        live = model.to_pytorch()(*map(torch.from_numpy, feeds.values()))
    _agree(right, live if isinstance(live, tuple) else (live,))


@pytest.mark.parametrize("framework", ["keras", "nnx"])
@pytest.mark.parametrize("name", ["TreeEnsembleClassifier", "Imputer"])
def test_the_others_compute_it_too(name, framework):
    pytest.importorskip({"keras": "keras", "nnx": "flax"}[framework])
    proto, feeds = _model(*CASES[name])
    model, target = dlbridge.load(proto), frameworks.get(framework)
    live = target.load(model.write(framework))
    _agree(model.original(feeds).values(), target.run(live, feeds).values())


def test_a_forest_is_one_walk_down_all_its_trees():
    text = dlbridge.load(_model(*CASES["TreeEnsembleClassifier"])[0]).write("pytorch").text
    assert text.count("torch.gather") == 1 and 'self.trees.register_buffer("threshold"' in text


def test_labels_that_are_strings_are_refused_with_the_way_to_the_scores():
    attributes = {**_CLASSES, "classlabels_strings": ["a", "b", "c"]}
    proto, _ = _model("TreeEnsembleClassifier", [X], attributes)
    with pytest.raises(UnsupportedOpError, match="its labels are strings"):
        dlbridge.load(proto)


def test_trees_that_go_round_are_refused():
    attributes = {**_tree(), "n_targets": 1, "nodes_truenodeids": [1, 0, 0, 0, 0, 1, 0, 0]}
    proto, _ = _model("TreeEnsembleRegressor", [X], attributes)
    with pytest.raises(UnsupportedOpError, match="its nodes are no trees"):
        dlbridge.load(proto)


def test_dictionaries_of_probabilities_become_a_table_with_a_word():
    proto, feeds = _model("LinearClassifier", [X], CASES["LinearClassifier"][2])
    zipped = helper.make_node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[4, 7, 9])
    proto.graph.node.append(zipped)
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(7, helper.make_tensor_type_proto(1, None)))
    proto.graph.output[1].CopyFrom(helper.make_value_info("maps", maps))
    with pytest.warns(DlbridgeWarning, match="maps: a table with a column for each class"):
        model = dlbridge.load(proto)
    assert model.original(feeds)["maps"].shape == (6, 3)
    assert proto.graph.node[-1].op_type == "ZipMap"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["logistic", "forest", "boosted", "support"])
def test_pipelines_of_scikit_learn(name):
    """As skl2onnx writes them, which is not needed for anything else."""
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn import datasets, ensemble, linear_model, pipeline, preprocessing, svm

    x, y = datasets.load_iris(return_X_y=True)
    last = {
        "logistic": linear_model.LogisticRegression(),
        "forest": ensemble.RandomForestClassifier(5, random_state=0),
        "boosted": ensemble.GradientBoostingClassifier(n_estimators=3),
        "support": svm.SVR(),
    }[name]
    made = pipeline.make_pipeline(preprocessing.StandardScaler(), last).fit(x, y)
    x = x[::9].astype("float32")
    proto = skl2onnx.to_onnx(made, x[:1], target_opset={"": 18, "ai.onnx.ml": 3})
    with torch.no_grad():
        found = dlbridge.load(proto).to_pytorch()(torch.from_numpy(x))
    if name == "support":
        np.testing.assert_allclose(found.numpy()[:, 0], made.predict(x), rtol=1e-4)
    else:
        np.testing.assert_array_equal(found[0].numpy(), made.predict(x))
        np.testing.assert_allclose(found[1].numpy(), made.predict_proba(x), atol=1e-5)
