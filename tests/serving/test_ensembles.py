"""Ensembles: models of the repository one after the other."""

import numpy as np
import pytest

from tests.helpers.serving import start, write_entry

PORT = '{{ name: "{}" data_type: TYPE_FP32 dims: [-1, 3] {} }}'


def step(model, given, made):
    maps = f'input_map {{ key: "x" value: "{given}" }} output_map {{ key: "y" value: "{made}" }}'
    return f'step {{ model_name: "{model}" model_version: -1 {maps} }}'


def ensemble(folder, *steps, label=""):
    folder.mkdir()
    (folder / "1").mkdir()
    ports = f"input {PORT.format('a', '')} output {PORT.format('c', label)}"
    (folder / "config.pbtxt").write_text(f'platform: "ensemble" {ports} ensemble_scheduling {{ {" ".join(steps)} }}')


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    repository = tmp_path_factory.mktemp("repository")
    write_entry(repository, "double", factor=2.0)
    write_entry(repository, "triple", factor=3.0)
    ensemble(
        repository / "six", step("double", "a", "b"), step("triple", "b", "c"), label='label_filename: "labels.txt"'
    )
    (repository / "six" / "labels.txt").write_text("red\ngreen\nblue")
    ensemble(repository / "broken", step("double", "a", "b"), step("triple", "nothing", "c"))
    ensemble(repository / "absent", step("tripel", "a", "c"))
    found = start(repository)
    yield found
    assert found.stop() == 0


def infer(running, model, outputs=None, **inputs):
    entries = [
        {"name": name, "shape": [1, 3], "datatype": "FP32", "data": np.ravel(values).tolist()}
        for name, values in inputs.items()
    ]
    body = {"inputs": entries, **({"outputs": outputs} if outputs else {})}
    return running.ask("POST", f"/v2/models/{model}/infer", body)[:2]


def test_the_steps_run_one_after_the_other(running):
    status, found = infer(running, "six", a=[1, 2, 3])
    assert status == 200, found
    (output,) = found["outputs"]
    assert output["name"] == "c" and output["data"] == [6, 12, 18]
    assert running.ask("GET", "/v2/models/six/ready")[0] == 200
    assert running.ask("GET", "/v2/models/six")[1]["inputs"][0]["name"] == "a"


def test_an_output_as_classes(running):
    status, found = infer(running, "six", [{"name": "c", "parameters": {"classification": 2}}], a=[1, 3, 2])
    assert status == 200, found
    assert found["outputs"][0]["data"] == ["18.000000:1:green", "12.000000:2:blue"]


def test_what_is_wrong_is_said(running):
    status, found = infer(running, "six", a=[1, 2, 3], b=[1, 1, 1])
    assert status == 400 and "no input 'b'" in found["error"]
    status, found = infer(running, "six", x=[1, 2, 3])
    assert status == 400
    status, found = infer(running, "broken", a=[1, 2, 3])
    assert status == 400 and "'nothing'" in found["error"]
    status, found = infer(running, "six/versions/7", a=[1, 2, 3])
    assert status == 404


def test_a_step_that_there_is_not_is_found_when_it_is_loaded(running):
    rows = {row["name"]: row for row in running.ask("POST", "/v2/repository/index")[1]}
    assert rows["absent"]["state"] == "UNAVAILABLE" and "tripel" in rows["absent"]["reason"]
    assert rows["six"]["state"] == "READY"


def test_unloading_with_its_steps(running):
    body = {"parameters": {"unload_dependents": True}}
    assert running.ask("POST", "/v2/repository/models/six/unload", body)[0] == 200
    assert running.infer("double", [[1, 2, 3]])[0] == 503
    for name in ("double", "triple", "six"):
        assert running.ask("POST", f"/v2/repository/models/{name}/load", {})[0] == 200
    assert infer(running, "six", a=[1, 2, 3])[0] == 200
