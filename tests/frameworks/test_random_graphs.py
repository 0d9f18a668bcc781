"""Random graphs give the same in PyTorch, in Keras and in onnxruntime, or a clear refusal."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError
from dlbridge.verification.compare import relative_error
from tests.helpers.random_graphs import Graph, right_answers

FRAMEWORKS = ("pytorch", "keras")


def check(seed: int) -> list[str]:
    """The frameworks that refused the graph of that seed; fails where one gives other numbers."""
    graph = Graph(seed)
    proto = graph.build()
    runs = [graph.arrays(batch) for batch in (2, 1)]
    wanted = right_answers(proto, runs)
    model = frameworks.get("onnx").read(proto)
    names = dict(zip([v.name for v in model.outputs], [o.name for o in proto.graph.output], strict=True))
    refused = []
    for name in FRAMEWORKS:
        framework = frameworks.get(name)
        try:
            live = framework.load(framework.write(model))
        except DlbridgeError:
            refused.append(name)
            continue
        try:
            answers = [framework.run(live, arrays) for arrays in runs]
        except Exception:
            if not graph.is_empty:  # some calls of the frameworks take no empty tensors, and say so
                raise
            refused.append(name)
            continue
        for answer, right in zip(answers, wanted, strict=True):
            for key, value in answer.items():
                expected = right[names[key]]
                assert value.shape == expected.shape, (seed, name, key)
                assert relative_error(value, expected) <= 1e-4, (seed, name, key)
    return refused


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_random_graphs(seed):
    check(seed)


@pytest.mark.slow
def test_a_thousand_random_graphs():
    refused = [name for seed in range(1000) for name in check(seed)]
    assert len(refused) <= 20, f"{len(refused)} of 2000 refused"
