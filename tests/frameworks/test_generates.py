"""What is written for generating says the same tokens as ``generate`` of transformers, in every framework."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import dlbridge
from dlbridge import frameworks, runtime, tasks
from dlbridge.cli import cli
from dlbridge.errors import DlbridgeError
from tests.helpers.generating import PROMPTS, features, said_by_transformers, tiny

pytest.importorskip("transformers")

STEPS = 64
#: Families, and what their configurations have beside tiny sizes.
FAMILIES = {
    "Llama": {},
    "Qwen2": {},
    "Gemma": {},
    "Phi": {"partial_rotary_factor": 0.5},
    "Mistral": {"sliding_window": 5},
    "GPT2": {},
    "T5": {},
    "Whisper": {},
}


def said_by(generator, name, steps=STEPS):
    if name == "Whisper":
        return generator.generate([[], []], max_tokens=steps, encoder={"input_features": features().numpy()})
    return generator.generate(PROMPTS, max_tokens=steps)


def check(name, targets, steps=STEPS):
    module = tiny(name, **FAMILIES[name])
    wanted = said_by_transformers(module, steps)
    assert len({token for row in wanted for token in row}) > 8  # a model that repeats itself shows little
    for target in targets:
        assert said_by(tasks.generator(dlbridge.convert(module, target, task="generate")), name, steps) == wanted


def test_the_same_tokens_as_transformers():
    check("Mistral", ["onnx", "pytorch"])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_tokens_as_transformers_everywhere(name):
    check(name, ["onnx", "pytorch", "keras", *(["nnx"] if frameworks.get("nnx").is_installed else [])])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model as its owner has saved it, with a tokenizer of words."""
    tokenizers = pytest.importorskip("tokenizers")
    path = tmp_path_factory.mktemp("saved") / "tiny-llama"
    tiny("Llama").save_pretrained(path)
    words = {f"w{index}": index for index in range(48)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def run(*arguments):
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def check_names(decoder):
    """The names that onnxruntime-genai asks for by its configuration, once its sizes are found to be the model's."""
    sizes = [decoder[f"num_{what}"] for what in ("attention_heads", "hidden_layers", "key_value_heads")]
    assert (sizes, decoder["head_size"], decoder["hidden_size"]) == ([4, 2, 2], 4, 16)
    names = [*decoder["inputs"].values(), *decoder["outputs"].values()]
    return {name % layer if "%d" in name else name for name in names for layer in range(2)}


def test_from_a_folder_to_text_on_the_command_line(folder, tmp_path):
    run("convert", folder, "--task", "generate", "--to", "onnx", "-o", tmp_path / "llama")
    certificate = json.loads((tmp_path / "llama" / "certificate.json").read_text())
    assert certificate["passed"]
    tried = {check["inputs"]: check["sizes"] for check in certificate["checks"]}
    assert tried["a prompt and then steps"] == {"batch": 3, "seq": 7, "past": 0}
    assert {sizes["past"] for sizes in tried.values()} >= {0, 6}
    config = json.loads((tmp_path / "llama" / "genai_config.json").read_text())
    session = runtime.load(tmp_path / "llama" / config["model"]["decoder"]["filename"])
    named = check_names(config["model"]["decoder"])
    assert {port.name for port in session.inputs} | {port.name for port in session.outputs} == named
    text = run("generate", tmp_path / "llama", "--prompt", "w5 w6 w7", "--max-tokens", 6)
    (wanted,) = said_by_transformers(tiny("Llama"), 6, [[5, 6, 7]])
    assert text.split() == [f"w{token}" for token in wanted]
    rows = ["--tokens", "5,6,7", "--tokens", "12"]
    found = json.loads(run("generate", tmp_path / "llama", *rows, "--max-tokens", 6, "--json"))
    assert found["tokens"][0] == wanted and len(found["tokens"][1]) == 6


def test_the_tokenizer_comes_along_into_a_repository(folder, tmp_path):
    run("convert", folder, "--task", "generate", "--to", "onnx", "--into", tmp_path, "--name", "tiny", "--no-verify")
    assert run("generate", tmp_path / "tiny", "--prompt", "w5 w6 w7", "--max-tokens", 2).startswith("w")


def test_tokens_that_are_none_are_left_out():
    from dlbridge.frameworks.pytorch.generation import settings

    module = tiny("GPT2")
    module.generation_config.pad_token_id, module.generation_config.eos_token_id = -1, [2, -1, 3]
    found = settings(module)
    assert (found.stop, found.pad, found.context, found.heads, found.width) == ((2, 3), 2, 96, 4, 16)
    module.generation_config.pad_token_id = 48  # a row that the table of words does not have
    assert settings(module).pad == 2


FACTORY = """
from tests.helpers.generating import tiny

def make(layers):
    return tiny("T5", num_layers=layers, num_decoder_layers=layers)
"""


def test_from_a_function_to_a_folder_of_two_graphs(tmp_path, monkeypatch):
    (tmp_path / "translator.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    run("convert", "translator.py:make", "--arg", "layers=1", "--task", "generate", "--to", "onnx", "-o", "t5")
    assert sorted(p.name for p in (tmp_path / "t5").iterdir()) == ["decoder", "encoder"]
    for part in ("encoder", "decoder"):
        assert json.loads((tmp_path / "t5" / part / "certificate.json").read_text())["passed"]
    rows = [word for prompt in PROMPTS for word in ("--tokens", ",".join(map(str, prompt)))]
    found = json.loads(run("generate", "t5", *rows, "--max-tokens", 20, "--json"))["tokens"]
    assert found == said_by_transformers(tiny("T5", num_layers=1, num_decoder_layers=1), 20)


def test_what_is_not_read_to_generate_says_so(tmp_path):
    import torch

    with pytest.raises(DlbridgeError, match=r"(?s)no model of transformers.*name its cache"):
        dlbridge.load(torch.nn.Linear(2, 2), task="generate")
    with pytest.raises(DlbridgeError, match=r"(?s)two graphs.*task='encode'"):
        dlbridge.load(tiny("T5"), task="generate")
    with pytest.raises(DlbridgeError, match="it has no encoder"):
        dlbridge.load(tiny("GPT2"), task="decode")
    with pytest.raises(DlbridgeError, match="says the inputs and the cache itself"):
        dlbridge.load(tiny("GPT2"), task="generate", inputs={"input_ids": "int64[batch,seq]"})
    with pytest.raises(DlbridgeError, match=r"(?s)no task 'generat'.*did you mean 'generate'"):
        dlbridge.convert(tiny("GPT2"), "onnx", task="generat")
    with pytest.raises(DlbridgeError, match="name a folder"):
        dlbridge.convert(tiny("T5"), "onnx", tmp_path / "t5.onnx", task="generate")
    with pytest.raises(DlbridgeError, match="keys and values that grow by each token"):
        dlbridge.load(tiny("Mamba"), task="generate")


def test_a_decoder_without_a_mask_is_refused():
    module = tiny("GPT2")

    class Maskless(type(module)):
        def forward(self, input_ids, past_key_values=None, use_cache=None, return_dict=None):
            given = {"past_key_values": past_key_values, "use_cache": use_cache, "return_dict": return_dict}
            return super().forward(input_ids, **given)

    module.__class__ = Maskless
    with pytest.raises(DlbridgeError, match="Maskless: it takes no 'attention_mask'"):
        dlbridge.load(module, task="generate")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "argmax"), [(("--dtype", "float16"), 0.98), (("--quantize", "int8"), 0.6), (("--quantize", "int4"), 0.3)]
)
def test_less_precise_models_generate_and_their_loss_is_told(said, argmax, tmp_path):
    module = tiny("Llama", hidden_size=64, intermediate_size=128, head_dim=16)
    module.save_pretrained(tmp_path / "src")
    run("convert", tmp_path / "src", "--task", "generate", "--to", "onnx", "-o", tmp_path / "llama", *said)
    loss = json.loads((tmp_path / "llama" / "certificate.json").read_text())["loss"]
    assert argmax <= loss["outputs"]["logits"]["argmax"] <= 1 and loss["bytes"]["after"] < loss["bytes"]["before"]
    found = runtime.generator(tmp_path / "llama").generate(PROMPTS, max_tokens=24)
    assert [len(row) for row in found] == [24, 24, 24]
    if said[1] == "float16":
        assert found == said_by_transformers(module, 24)


def test_onnxruntime_genai_loads_the_folder_as_it_is(tmp_path):
    genai = pytest.importorskip("onnxruntime_genai")
    module = tiny("Llama")
    (wanted,) = said_by_transformers(module, 40, [[5, 6, 7]])
    module.generation_config.eos_token_id = wanted[-1]
    dlbridge.convert(module, "onnx", tmp_path / "llama", task="generate")
    model = genai.Model(str(tmp_path / "llama"))
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(max_length=80, do_sample=False)
    generator = genai.Generator(model, parameters)
    generator.append_tokens([[5, 6, 7]])
    while not generator.is_done():
        generator.generate_next_token()
    found = [int(token) for token in generator.get_sequence(0)][3:]
    assert found == wanted[: len(found)] and len(found) >= wanted.index(wanted[-1])
