"""Nothing of an entry leads out of its repository: neither links, nor names, nor the files that a model names."""

import numpy as np
import onnx
import pytest
from onnx import external_data_helper, helper, numpy_helper

from dlbridge import runtime
from dlbridge.errors import FileError
from dlbridge.repository import config as configs
from dlbridge.repository.layout import find_model
from dlbridge.serving import versions
from dlbridge.serving.repository import Repository
from tests.helpers.serving import write_entry


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "secret").write_text('{"passed": true}')
    return write_entry(tmp_path / "repository", "model").parent


@pytest.mark.parametrize("target", ["../../secret", "/etc/passwd", "/dev/zero", "config.pbtxt"])
def test_a_configuration_that_is_a_link(repository, target):
    (repository / "model" / "config.pbtxt").symlink_to(target)
    with pytest.raises(FileError, match="leaves the repository"):
        configs.read(repository / "model")


def test_a_configuration_that_is_a_link_within_the_repository(repository):
    (repository / "shared.pbtxt").write_text("max_batch_size: 3")
    (repository / "model" / "config.pbtxt").symlink_to("../shared.pbtxt")
    assert configs.read(repository / "model").max_batch_size == 3


@pytest.mark.parametrize("name", ["labels.txt", "../../secret", "/etc/passwd", "a\\0b"])
def test_labels_that_are_elsewhere(repository, name):
    (repository / "model" / "labels.txt").symlink_to("../../secret")
    config = configs.ModelConfig(name="model")
    config.output.add(name="y", label_filename=name.replace("\\0", "\0"))
    with pytest.raises(FileError):
        versions.labels(config, repository / "model", repository)


def test_a_certificate_that_is_a_link(repository):
    file = repository / "model" / "1" / "model.onnx"
    (file.parent / "certificate.json").symlink_to("../../../secret")
    with pytest.raises(FileError, match="leaves the repository"):
        versions._check_certificate(file, repository)


def test_a_certificate_beside_the_folder_of_a_single_file_says_nothing_of_it(tmp_path):
    (tmp_path / "certificate.json").write_text('{"passed": false}')
    file = write_entry(tmp_path, "folder") / "1" / "model.onnx"
    versions._check_certificate(file, file.parent)


@pytest.mark.parametrize("location", ["../../../secret", "/etc/passwd", "link"])
def test_weights_that_are_elsewhere(repository, location):
    folder = repository / "model" / "1"
    (folder / "link").symlink_to("../../../secret")
    weight = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    ports = [helper.make_tensor_value_info(n, 1, [3]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], [weight])
    external_data_helper.set_external_data(graph.initializer[0], location, 0, 12)
    graph.initializer[0].ClearField("raw_data")
    graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(FileError, match="External data path"):
        runtime.load(folder / "model.onnx")


@pytest.mark.parametrize("name", ["\u00b2", "\u0661", "01", "-1", "1" * 30])
def test_folders_that_are_no_versions(repository, name):
    write_entry(repository, "model", version=name)
    found = Repository(repository)._files("model", configs.read(repository / "model"))
    assert list(found) == [1] and find_model(repository / "model").parent.name == "1"


def test_numbers_that_would_take_all_memory_are_refused(repository):
    for text, word in (
        ("dynamic_batching { priority_levels: 2000000000 default_priority_level: 1 }", "priority_levels"),
        ("instance_group { count: 2000000000 }", "count"),
        ("instance_group { kind: 77 }", "instance_group 77"),
        ('input { name: "x" dims: 1 data_type: 77 }', "no data_type"),
        ("max_batch_size: 99999999999", "not a model configuration"),
    ):
        (repository / "model" / "config.pbtxt").write_text(text)
        with pytest.raises(FileError, match=word):
            configs.read(repository / "model")
