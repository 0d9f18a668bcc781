"""What tells that the files of a repository have changed, and what is done about it."""

import asyncio
import os
import time

import pytest

from dlbridge.errors import FileError
from dlbridge.serving.repository import Repository
from dlbridge.serving.watching import stamps_of_entry, stamps_of_file, watch
from tests.helpers.serving import affine, write_entry


def test_an_older_file_of_the_same_size_is_another(tmp_path):
    """Put back from a copy that keeps times, beside a file that is newer."""
    version = write_entry(tmp_path, "model") / "1"
    (version / "notes.txt").write_text("newer")
    before = stamps_of_entry(version.parent, [version])
    other = affine(tmp_path / "other.onnx", 7.0)
    os.utime(other, (1, 1))
    os.replace(other, version / "model.onnx")
    assert stamps_of_entry(version.parent, [version])["1"] != before["1"]


def test_the_weights_beside_one_file_belong_to_it(tmp_path):
    file = affine(tmp_path / "[1] model.onnx")
    before = stamps_of_file(file)
    (tmp_path / "other.txt").write_text("x")
    assert stamps_of_file(file) == before
    (tmp_path / "[1] model.onnx.data").write_bytes(b"x")
    assert stamps_of_file(file) != before


def test_labels_that_change_are_read_and_an_entry_that_is_gone_is_served_no_longer(tmp_path):
    described = 'output { name: "y" data_type: TYPE_FP32 dims: [3] label_filename: "labels.txt" }'
    entry = write_entry(tmp_path, "model", f"max_batch_size: 4 {described}")
    (entry / "labels.txt").write_text("cat\ndog\nfox\n")
    other = write_entry(tmp_path, "other")

    async def until(condition):
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, "it did not come about"
            await asyncio.sleep(0.02)

    async def main():
        repository = Repository(tmp_path)
        await repository.load_all()
        watching = asyncio.create_task(watch(repository, 0.05))
        (entry / "labels.txt").write_text("one\ntwo\nsix\n")
        await until(lambda: repository.version("model").labels == {"y": ["one", "two", "six"]})
        other.rename(tmp_path.parent / "elsewhere")
        await until(lambda: [*repository.models] == ["model"])
        watching.cancel()
        await repository.close()

    asyncio.run(main())


def test_a_repository_that_cannot_be_looked_at_is_looked_at_again(tmp_path, caplog):
    class Repository:
        looks = 0

        def changed(self):
            self.looks += 1
            raise FileNotFoundError("gone while it was looked at")

    async def main():
        repository = Repository()
        watching = asyncio.create_task(watch(repository, 0.001))
        await asyncio.sleep(0.05)
        assert repository.looks > 1 and not watching.done()
        watching.cancel()

    asyncio.run(main())
    assert "cannot be looked at" in caplog.text


def test_an_entry_is_no_repository(tmp_path):
    entry = write_entry(tmp_path, "model")
    with pytest.raises(FileError, match="not a repository") as caught:
        Repository(entry)
    assert f"{tmp_path} --model model" in str(caught.value)


def test_a_folder_whose_name_no_model_can_have_is_told(tmp_path, caplog):
    write_entry(tmp_path, "my model")
    write_entry(tmp_path, ".hidden")
    (tmp_path / "no entry").mkdir()
    asyncio.run(Repository(tmp_path).load_all())
    assert [record.levelname for record in caplog.records] == ["ERROR"] and "'my model' cannot be" in caplog.text
