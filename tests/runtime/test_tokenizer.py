"""The tokenizer beside a model: what its file says beyond tokens does not count, and what is broken is told."""

import json

import pytest

from dlbridge.errors import FileError
from dlbridge.runtime.text import Tokenizer

tokenizers = pytest.importorskip("tokenizers")


def written(folder, model, **others):
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    file = folder / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(made.to_str()), **others}))
    return Tokenizer(file)


def test_a_prompt_is_neither_cut_off_nor_filled_up(tmp_path):
    cut = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    fill = {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None}
    fill |= {"pad_id": 1, "pad_type_id": 0, "pad_token": "b"}
    model = tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a")
    assert written(tmp_path, model, truncation=cut, padding=fill).encode("b a b a") == [1, 0, 1, 0]


def test_what_the_package_does_not_foresee_is_an_error_of_the_file(tmp_path, capfd):
    unknown = written(tmp_path, tokenizers.models.WordLevel({"a": 0}, unk_token="gone"))
    with pytest.raises(FileError, match="cannot read a text"):
        unknown.encode("b")
    pieces = [{"SpecialToken": {"id": "gone", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": {}}
    with pytest.raises(FileError, match=r"tokenizer\.json: "):
        written(tmp_path, tokenizers.models.BPE({"a": 0}, []), post_processor=template).encode("a")
    with pytest.raises(FileError, match="cannot write tokens as text"):
        unknown.decode([2**40])
