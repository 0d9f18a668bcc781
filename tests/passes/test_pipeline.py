"""Pipelines: a route is a list of passes, which can be printed, watched, and cut in the middle."""

from __future__ import annotations

import dataclasses

import onnx
import onnx_ir as ir
import pytest

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import DlbridgeError
from dlbridge.frameworks.onnx import reader as onnx_reader
from dlbridge.frameworks.onnx import writer as onnx_writer
from dlbridge.model import Model
from dlbridge.passes import Pass, Pipeline
from dlbridge.passes.pipeline import dump_after, timed
from dlbridge.passes.prepare import PREPARE
from dlbridge.passes.standard import FOLD, INFER, LIFT, REFINE
from tests.helpers.random_graphs import Graph

SEEDS = range(12)
#: A product with a weight, a Gelu that is written out, sizes that are computed.
WRITTEN_OUT = """<ir_version: 10, opset_import: ["": 20]> agraph (float[batch, 2, 4] x) => (float[batch, 4] y)
    <float[4, 4] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}, float r = {1.4142135}, float one = {1}, float half = {0.5}> {
        [fc_MatMul] m = MatMul (x, w)
        [act_div] a = Div (m, r) [act_erf] b = Erf (a) [act_add] c = Add (b, one) [act_mul] d = Mul (m, c)
        [act_half] g = Mul (d, half)
        [sizes] s = Shape <start = 0, end = 1> (g)
        [four] f = Constant <value_ints = [2, 4]> ()
        [join] t = Concat <axis = 0> (s, f)
        [same] z = Reshape (g, t)
        [axes] o = Constant <value_ints = [1]> ()
        [pool] y = ReduceMean <keepdims = 0> (z, o)
    }"""


def _models() -> list[onnx.ModelProto]:
    return [onnx.parser.parse_model(WRITTEN_OUT), *(Graph(seed).build() for seed in SEEDS)]


def _prepared(proto: onnx.ModelProto) -> ir.Model:
    """A file as the pipeline of the reader gets it."""
    model = ir.from_proto(proto)
    model.graph.meta[onnx_reader._OWN] = set(model.graph.initializers)
    return model


def _routes() -> list[tuple[str, Pipeline, ir.Model]]:
    """Every route that needs no framework, and what it starts from."""
    routes = []
    for proto in _models():
        read = frameworks.get("onnx").read(proto)
        routes.append(("read", onnx_reader.PIPELINE, _prepared(proto)))
        routes.append(("prepare", PREPARE, read.clone().ir))
        routes.append(("write", onnx_writer.pipeline(18), read.clone().ir))
    return routes


def _text(model: ir.Model) -> str:
    return str(ir.to_proto(model))


def test_a_pipeline_that_is_cut_and_gone_on_with_gives_the_same_model():
    for route, pipeline, start in _routes():
        whole = start.clone()
        pipeline(whole)
        for name in pipeline.names[:-1]:
            model = start.clone()
            run = pipeline.until(name)(model)
            pipeline.after(name)(model, run.facts)
            assert _text(model) == _text(whole), (route, name)


def test_a_pass_that_is_run_twice_changes_nothing_the_second_time():
    for route, pipeline, model in _routes():
        for each in pipeline:
            each.run(model)
            before = _text(model)
            again = each.run(model)
            assert _text(model) == before, (route, each.name)
            assert again is not True or each.name in ("infer_open", "refine", "refine_folded"), (route, each.name)


def test_what_a_model_has_is_not_made_again():
    model = frameworks.get("onnx").read(onnx.parser.parse_model(WRITTEN_OUT)).ir
    pipeline = Pipeline("twice", [INFER, FOLD, INFER.named("again"), FOLD.named("fold_again"), LIFT, REFINE])
    outcomes = {step.name.partition(".")[2]: step.outcome for step in pipeline(model).steps}
    assert outcomes["again"] == outcomes["fold_again"] == "skipped"


def test_what_onnx_is_made_of_is_inferred_again_where_it_was_lowered():
    proto = onnx.parser.parse_model(WRITTEN_OUT)
    with timed() as steps:
        frameworks.get("onnx").write(frameworks.get("onnx").read(proto))
    done = [step.name for step in steps if step.outcome != "skipped"]
    assert [name for name in done if ".infer" in name] == ["read.infer", "write.infer", "write.infer_lowered"]
    assert [name for name in done if ".fold" in name] == ["read.fold", "read.fold_lifted"]


def test_from_pytorch_to_keras_each_border_infers_and_folds_once():
    import torch

    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten())
    with timed() as steps:
        dlbridge.load(module.eval(), inputs={"input": "float32[batch,3,8,8]"}).write("keras")
    done = [step.name for step in steps if step.outcome != "skipped"]
    assert [name for name in done if ".infer" in name] == ["read.infer", "write.infer"]
    assert [name for name in done if ".fold" in name] == ["read.fold", "write.fold"]


def test_a_pipeline_is_printed_as_a_list():
    assert str(PREPARE).splitlines()[:2] == ["write", "  1. infer: Set dtype and shape of every value."]
    assert len(str(PREPARE).splitlines()) == 1 + len(PREPARE)


def test_a_run_says_what_each_pass_did():
    model = frameworks.get("onnx").read(onnx.parser.parse_model(WRITTEN_OUT)).ir
    run = PREPARE(model)
    assert [step.name for step in run.steps] == [f"write.{each.name}" for each in PREPARE]
    assert "unchanged" in str(run) and all(step.seconds >= 0 for step in run.steps)


def test_a_pass_that_may_not_find_what_it_requires_is_a_mistake():
    with pytest.raises(ValueError, match=r"broken\.lift requires types"):
        Pipeline("broken", [LIFT])
    with pytest.raises(ValueError, match="two passes of the name infer"):
        Pipeline("broken", [INFER, INFER])
    breaking = Pass("break", lambda model: True, "Change something.")
    with pytest.raises(ValueError, match=r"broken\.fold requires types"):
        Pipeline("broken", [INFER, breaking, FOLD])


def test_a_pass_of_another_name_is_told_with_all_there_are():
    with pytest.raises(DlbridgeError, match="no pass 'fodl'") as error:
        PREPARE.until("fodl")
    assert "did you mean 'fold'" in str(error.value.hint) and "infer, fold, refine" in str(error.value.hint)


def test_the_model_is_dumped_as_it_is_after_a_pass(tmp_path):
    proto = onnx.parser.parse_model(WRITTEN_OUT)
    found = {}
    for name in ("upgrade", "read.lift"):
        with dump_after(name, tmp_path / f"{name}.onnx"):
            frameworks.get("onnx").read(proto)
        found[name] = {node.op_type for node in onnx.load(tmp_path / f"{name}.onnx").graph.node}
    assert "Erf" in found["upgrade"] and "Gelu" not in found["upgrade"]
    assert {"Gelu", "Linear"} <= found["read.lift"] and "Erf" not in found["read.lift"]


def test_a_dump_after_a_pass_that_there_is_not_lists_those_there_are(tmp_path):
    path = tmp_path / "x.onnx"
    with pytest.raises(DlbridgeError, match="no pass 'downgarde'") as error, dump_after("downgarde", path):
        model = frameworks.get("onnx").read(onnx.parser.parse_model(WRITTEN_OUT))
        frameworks.get("onnx").write(model)
        pytest.fail("it is told before the model is written")
    assert "read.upgrade" in str(error.value.hint) and "write.downgrade" in str(error.value.hint)
    with pytest.raises(DlbridgeError, match="no pass 'x'"), dump_after("x", path):
        frameworks.get("onnx").read(onnx.parser.parse_model(WRITTEN_OUT))
    assert not path.exists()


def test_facts_are_as_they_are_told():
    """What a pass provides and keeps is true: types are all there, and folding again changes nothing."""
    for route, pipeline, model in _routes():
        facts = pipeline.has
        for each in pipeline:
            changed = each.run(model)
            facts = (facts & each.keeps if changed is not False else facts) | each.provides
            if "folded" in facts and "types" in facts:
                copy = Model(model.clone()).ir
                assert not FOLD.run(copy), (route, each.name)


def test_every_route_has_its_pipeline():
    from dlbridge.frameworks.keras import reader as keras_reader
    from dlbridge.frameworks.keras import writer as keras_writer
    from dlbridge.frameworks.pytorch import reader as torch_reader
    from dlbridge.frameworks.pytorch import writer as torch_writer

    routes = [keras_reader.PIPELINE, torch_reader.PIPELINE, torch_writer.PIPELINE, keras_writer.pipeline()]
    for pipeline in routes:
        assert len(pipeline) > 3 and all(each.does.endswith(".") for each in pipeline)
    assert dataclasses.is_dataclass(Pass) and dlbridge.passes.Pipeline is Pipeline
