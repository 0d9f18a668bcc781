"""Prints the definitions of a model as ``nn.Module`` classes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from torch import nn

from dlbridge.frameworks.pytorch import helpers
from dlbridge.frameworks.pytorch.training_code import training_loop
from dlbridge.source import printing
from dlbridge.source.blocks import is_weight
from dlbridge.source.code import Code, Literal, Raw, call, literal_text
from dlbridge.source.definitions import Definition, OptionalSteps, Written
from dlbridge.source.loops import Loop, roll
from dlbridge.source.names import Names, identifier, is_index, is_plain, quoted
from dlbridge.source.regularized import comment
from dlbridge.source.variables import input_names, name_values, names_read, output_names

if TYPE_CHECKING:
    from dlbridge.frameworks.pytorch.writer import _Writer

#: Before the text of a member: a buffer, and one that is no part of the state dict.
BUFFER, CONSTANT = "<buffer>", "<constant>"
INDENT = "    "
#: The call of a module that one of a loop may be.
CALLED = re.compile(r"(?<== )self\.[\w.]+(?:\[[0-9]+\]|(?<=[0-9]))(?=\()")
#: Of fewer modules that are all that a class has, each is called by its name.
MIN_CHILDREN = 4
#: More frozen modules than this are frozen in a loop over their paths.
MAX_FROZEN_LINES = 6
#: Names that a written file gives to nothing of its own.
MODULES = frozenset({"self", "math", "torch", "F", "nn"})
#: The function that makes a module in a memory format.
BUILD = "build_model"
_OWN = frozenset(dir(nn.Module()))
RESERVED = MODULES | {BUILD} | frozenset(printing.helper_names(helpers))


def print_module(writer: _Writer, definitions: list[Definition], root: Definition) -> str:
    """The whole file."""
    classes = [_class(writer, d, d is root) for d in definitions]
    if writer.memory_format is not None:
        made = f"{root.name}().to(memory_format=torch.{writer.memory_format})"
        classes.append([f"def {BUILD}():", f"{INDENT}return {made}"])
    spec = writer.model.training
    if spec is not None:
        inputs = [identifier(v.name or "x") for v in writer.model.inputs]
        loop = training_loop(spec, inputs, writer.model.outputs)
        loop[1:1] = comment(writer.model.graph)
        classes.append([part for line in loop for part in printing.fit(line)])
    body = "\n\n\n".join([*writer.functions.texts, *("\n".join(lines) for lines in classes)])
    everything = "\n\n\n".join([*printing.helpers(helpers, body), body])
    used = printing.modules_used(everything)
    imports = ["import math\n"] if "math" in used else []
    imports.append("import torch")
    if "F" in used:
        imports.append("import torch.nn.functional as F")
    imports.append("from torch import nn")
    return "\n".join(imports) + "\n\n\n" + everything + "\n"


def stand_in(name: str, node: ir.Node, about: list[str]) -> tuple[str, str]:
    """A function to be filled in."""
    arguments = ", ".join(f"x{i}" for i, v in enumerate(node.inputs) if v is not None)
    text = [f"def {name}({arguments}):", *printing.docstring(about, INDENT)]
    return name, "\n".join([*text, f'{INDENT}raise NotImplementedError("{name} is to be filled in")'])


def _class(writer: _Writer, definition: Definition, is_root: bool) -> list[str]:
    written = definition.written
    about = printing.about_sizes(writer.graph, INDENT) if is_root else []
    about += [""] if about else []
    if is_root and written.block in writer.sequences:
        lines = [f"class {definition.name}(nn.Sequential):", *about, f"{INDENT}def __init__(self):"]
        items = call("super().__init__", *writer.sequences[written.block])
        init = [_plain(items), *_endings(writer)]
        return lines + [part for line in init for part in printing.fit(2 * INDENT + line)]
    in_init, in_forward = _parameter_uses(definition)
    arguments = ", ".join(["self", *definition.signature()])
    base, made = "nn.Module", "super().__init__()"
    if is_root and writer.base is not None:
        base, _, given = _plain(writer.base).partition("(")
        made = f"super().__init__({given}"
    lines = [f"class {definition.name}({base}):", *about]
    steps = OptionalSteps(definition)
    kept = [p for p in definition.parameters if p in in_forward or p in steps.kept()]
    init = [f"self.{p} = {p}" for p in kept] + _members(written, in_init, steps)
    if is_root:
        init += _endings(writer)
    if init or base != "nn.Module":
        lines += printing.fit(f"{INDENT}def __init__({arguments}):")
        init = [made, *init]
        lines += [part for line in init for part in printing.fit(2 * INDENT + line)]
        lines.append("")
    return lines + _forward(writer, definition, in_forward, is_root)


def _ties(writer: _Writer) -> list[str]:
    return [f"{writer.reach(path)} = {writer.reach(first)}" for path, first in writer.joined]


def _endings(writer: _Writer) -> list[str]:
    """What the model says at the end of its ``__init__``, when all of its parts are there."""
    names = ", ".join(literal_text(name) for name in writer.constants)
    hook = [f"self.register_load_state_dict_post_hook(constants_may_be_missing({names}))"] if names else []
    return [*_ties(writer), *_frozen(writer), *hook]


def _frozen(writer: _Writer) -> list[str]:
    """What keeps from training: ``self.backbone.requires_grad_(False)``."""
    frozen = writer.frozen()
    modules = [path for path in frozen if path not in writer.trains]
    lines = []
    if len(modules) > MAX_FROZEN_LINES:
        lines += [
            f"for path in {literal_text(tuple(modules))}:",
            f"{INDENT}self.get_submodule(path).requires_grad_(False)",
        ]
        frozen = [path for path in frozen if path in writer.trains]
    reach = [
        writer.reach(path, kind="module" if path in modules else "parameter") if path else "self" for path in frozen
    ]
    return lines + [f"{text}.requires_grad_(False)" for text in reach]


def _parameter_uses(definition: Definition) -> tuple[dict[int, str], dict[str, list[int]]]:
    """Slots of ``__init__`` -> parameter; parameters that ``forward`` reads -> their slots."""
    count = sum(len(list(new.literals())) for _, new in definition.written.members)
    in_init = {slot: name for slot, name in definition.slots.items() if slot < count}
    in_forward: dict[str, list[int]] = {}
    for slot, name in definition.slots.items():
        if slot >= count:
            in_forward.setdefault(name, []).append(slot - count)
    return in_init, in_forward


# --- __init__ ------------------------------------------------------------------------------------------------------


def _members(written: Written, parameters: dict[int, str], steps: OptionalSteps) -> list[str]:
    """The assignments of ``__init__``; numbered members become lists of modules."""
    slot = 0
    texts: dict[str, str] = {}
    for index, (name, new) in enumerate(written.members):
        literals: dict[tuple[int, int], str | None] = {}
        for literal in new.literals():
            literals[id(literal), len(literals)] = parameters.get(slot)
            slot += 1
        texts[name] = steps.member(index, _with_parameters(new, list(literals.values())), "nn.Identity()")
    lines: list[str] = []
    done: set[str] = set()
    for name, text in texts.items():
        if name in done:
            continue
        container = _numbered_container(name)
        if container is None:
            lines += _assign(name, text, texts, done)
            continue
        lines += _parents(container, texts, done)
        if container not in done:  # it may be an item of a list itself
            lines.append(_held(container, _nested(container, texts, done)))
    return lines


def _is_item(name: str, container: str) -> bool:
    return name.startswith(container + ".") and is_index(name[len(container) + 1 :])


def _numbered_container(name: str) -> str | None:
    container, _, last = name.rpartition(".")
    return container if container and is_index(last) else None


def _list(items: dict[int, str]) -> str:
    modules = [items.get(i, "nn.Identity()") for i in range(max(items) + 1)]
    kind = "nn.ParameterList" if all(m.startswith("nn.Parameter(") for m in modules) else "nn.ModuleList"
    if len(set(modules)) == 1 and len(modules) > 2:
        return f"{kind}([{modules[0]} for _ in range({len(modules)})])"
    return f"{kind}([{', '.join(modules)}])"


def _assign(name: str, text: str, texts: dict[str, str], done: set[str]) -> list[str]:
    parent, _, last = name.rpartition(".")
    lines = _parents(name, texts, done)
    owner = f"self{attribute(parent)}"
    for mark, persistent in ((BUFFER, ""), (CONSTANT, ", persistent=False")):
        if text.startswith(mark):
            return [*lines, f"{owner}.register_buffer({quoted(last)}, {text.removeprefix(mark)}{persistent})"]
    if not is_plain(last):
        add = "register_parameter" if text.startswith("nn.Parameter(") else "add_module"
        return [*lines, f"{owner}.{add}({quoted(last)}, {text})"]
    return [*lines, f"{owner}.{last} = {text}"]


def _parents(name: str, texts: dict[str, str], done: set[str]) -> list[str]:
    """Empty modules for the parts of a path that nothing makes."""
    lines = []
    parts = name.split(".")[:-1]
    for length in range(1, len(parts) + 1):
        path = ".".join(parts[:length])
        if path in texts or path in done:
            continue
        done.add(path)
        lines.append(_held(path, _nested(path, texts, done)))
    return lines


def _held(path: str, text: str) -> str:
    """The statement that puts a module at a path."""
    owner, _, last = path.rpartition(".")
    if is_plain(last) or (owner and is_index(last)):
        return f"self{attribute(path)} = {text}"
    return f"self{attribute(owner)}.add_module({quoted(last)}, {text})"


def _nested(path: str, texts: dict[str, str], done: set[str]) -> str:
    """A module that stands at a path: what is made there, a list of numbered ones, or an empty one."""
    done.add(path)
    if path in texts:
        return texts[path]
    heads = {n[len(path) + 1 :].partition(".")[0] for n in texts if n.startswith(path + ".")}
    items = [int(head) for head in heads if is_index(head)]
    if not items:
        return "nn.Module()"
    return _list({i: _nested(f"{path}.{i}", texts, done) for i in items})


def attribute(path: str) -> str:
    """A dotted path as Python reaches it from ``self``: ``layers.0.attn`` -> ``.layers[0].attn``."""
    text = ""
    for part in path.split(".") if path else ():
        if is_index(part) and text:
            text += f"[{part}]"
        elif is_plain(part):
            text += f".{part}"
        else:
            text += f".get_submodule({quoted(part)})"
    return text


def spelled(part: str) -> str:
    """A part of a path as a module can be called: not as what every module has (``forward``, ``training``)."""
    return f"{part}_" if part in _OWN else part


def sequence(items: list[Code]) -> Code:
    """``nn.Sequential`` of modules."""
    texts = {_plain(i) for i in items}
    if len(texts) == 1 and len(items) > 2:
        inner = items[0].parts
        return Code(("nn.Sequential(*[", *inner, " for _ in range(", Literal(len(items), "depth"), ")])"))
    return call("nn.Sequential", *items)


# --- forward -------------------------------------------------------------------------------------------------------


def _forward(writer: _Writer, definition: Definition, parameters: dict[str, list[int]], is_root: bool) -> list[str]:
    written = definition.written
    taken = MODULES | names_read(written)
    inputs = input_names(written.block.inputs, taken, is_root=is_root, path=written.block.path)
    kept = frozenset(inputs.values()) - {"x"} if is_root else frozenset()
    names = name_values(written, inputs, kept, MODULES, output_names(writer.model.outputs) if is_root else None)

    def name(value: ir.Value) -> str:
        return writer._weight_name(written.block, value) if value not in names and is_weight(value) else names[value]

    slot_names = {slot: f"self.{p}" for p, slots in parameters.items() for slot in slots}
    lines: list[str] = []
    steps = OptionalSteps(definition)
    slot = 0
    for index, line in enumerate(written.lines):
        literals = list(line.code.literals())
        shown = [slot_names.get(slot + i) for i in range(len(literals))]
        slot += len(literals)
        targets = [names[t] for t in line.targets]
        left = line.pattern.format(*targets) if line.pattern else ", ".join(targets)
        lines.append(f"{left} = {steps.line(index, _with_parameters(line.code, shown, name), name, 'self.')}")
    if is_root:
        returned: list[Any] = writer.returned
    else:
        returned = list(written.block.outputs)
    texts = [r.text(name) if isinstance(r, Code) else name(r) for r in returned]
    lines.append(f"return {', '.join(texts)}" if len(texts) > 0 else "return None")
    # Layers that get a second place may get it here, as children that no line calls.
    attached = [path for path, _ in writer.joined if path not in writer.weights]
    header = f"{INDENT}def forward({', '.join(['self', *inputs.values()])}):"
    body = _merge_return(_loops(lines, [name for name, _ in written.members] + attached))
    return [*printing.fit(header), *(part for text in body for part in printing.fit(2 * INDENT + text))]


def _merge_return(lines: list[str]) -> list[str]:
    """``x = f(x)`` followed by ``return x`` is ``return f(x)``."""
    if len(lines) < 2:
        return lines
    target, _, value = lines[-2].partition(" = ")
    return [*lines[:-2], f"return {value}"] if lines[-1] == f"return {target}" and "," not in target else lines


def _loops(lines: list[str], members: list[str]) -> list[str]:
    """Calls of all modules of a list, or of all modules that there are, one after the other, become a loop."""
    words = set(re.findall(r"\w+", "\n".join(lines)))

    def loop(parts: list[str]) -> Loop | None:
        name, _, index = parts[0].removeprefix("self.").partition("[")
        if index:
            over, called = f"self.{name}", [m for m in members if _is_item(m, name)]
            if any(m.startswith(f"{name}.") and not is_index(m[len(name) + 1 :].partition(".")[0]) for m in members):
                return None  # the list would go through what has a name too
            singular = name.rpartition(".")[2].rstrip("s_0123456789")
            word = singular if singular and singular != name.rpartition(".")[2] else "layer"
            wanted = [f"{over}[{i}]" for i in range(len(called))]
        else:
            over, called, word = "self.children()", members, re.sub(r"[0-9]+$", "", name)
            wanted = [f"self.{m}" for m in members if re.sub(r"[0-9]+$", "", m) == word]
            if len(wanted) < MIN_CHILDREN:
                return None
        if len(wanted) != len(called) or parts[: len(wanted)] != wanted:
            return None
        word = identifier(word) if identifier(word) not in words else Names(*words).fresh("layer")
        return Loop(f"for {word} in {over}:", word, len(wanted))

    return roll(lines, CALLED, loop)


def _plain(fragment: Code) -> str:
    return _with_parameters(fragment, [None] * len(list(fragment.literals())))


def _with_parameters(fragment: Code, shown: list[str | None], name: Any = None) -> str:
    """Print code with some of its literals as parameters."""
    pieces = []
    position = 0
    for part in fragment.parts:
        if isinstance(part, Literal):
            pieces.append(part.text(shown[position]))
            position += 1
        else:
            pieces.append(part if isinstance(part, str) else name(part))
    return "".join(pieces)


__all__ = ["BUFFER", "CONSTANT", "RESERVED", "Raw", "attribute", "print_module", "sequence", "spelled"]
