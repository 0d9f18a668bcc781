"""``Dialect``: what a framework whose models are classes of modules says in its own way (PyTorch, Flax NNX)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from dlbridge.source import printing
from dlbridge.source.arithmetic import Elements
from dlbridge.source.op import Rules
from dlbridge.source.tree.code import Code, Raw, code, expression
from dlbridge.source.tree.expr import Attr, Const, Index
from dlbridge.source.tree.statements import Assign, Class, Def, Raise, Statement

if TYPE_CHECKING:
    from dlbridge.source.classes.writer import ModuleWriter
    from dlbridge.source.definitions import Definition


class Dialect:
    """Base class; a framework gives the attributes, and overrides the methods in which it differs.

    A file is written by ``source.modules.write_modules``. It comes out as::

        <imports that the code reads>

        <helpers that the code calls, copied from ``helpers``>

        class Block(<base>):
            def __init__(self, channels, <parameters>):
                <init>
                self.conv = nn.Conv2d(channels, 16, 3)    # from the rules (Layer.new)
                self.scale = <free_weight>                # a weight that no layer holds
                self.layers = <module_list>([...])        # members whose names are numbers

            def <call>(self, x):
                return self.layers[0](self.conv(x)) * self.scale

        <epilogue: build_model, a training loop>

    Rules hand over expressions (``source.code``). What they print of modules beyond that (how one is found at a path,
    or put there) is asked of the dialect. A weight's key in ``Source.weights`` is its dotted path in the tree of
    modules with the slot's name behind it, ``layers.0.conv.kernel``; items of lists and of sequences are numbers in it.

    To begin a framework: its ``Rules``; ``writes/`` with one module a family, and one that says
    ``rules("Call", domain=repeats.DOMAIN)(repeats.further_call)`` for modules that are called again; ``helpers/``; a
    ``Dialect``; and a ``write`` that gives ``source.modules.write_modules`` the passes of its route
    (``frameworks/pytorch/writer.py`` is short).

    Attributes:
        framework: The framework's name in the registry.
        rules: Its rules.
        helpers: The package of short functions that are copied into files that call them.
        imports: Import statements of one name each, in the order of the file: ``"import jax.numpy as jnp"``.
            A statement stands in a file that reads attributes of the name. ``math`` need not be said.
        always: Names that are imported even where no code reads them.
        reserved: Further names that a file gives to nothing of its own.
        base: Base class of modules.
        init: First statement of every ``__init__``; None where there is none to be made.
        parameters: Parameters at the end of every ``__init__`` that makes something: ``("*", "rngs")``.
        passed_on: What the code that makes such a class gives for them: ``{"rngs": Raw("rngs")}``.
        call: Name of the method that computes.
        identity: The module that gives back its input; None where the framework has none, then a step that some blocks
            of a class lack is left out where it is called.
        empty: A module that holds nothing yet, for the parts of a path that no block makes.
        gap: What stands in a list where a number is missing.
        sequence: The class that calls its items one after the other, made of the items. A class of our own may be a
            subclass of it.
        children: An expression of all modules of ``self`` in the order in which they were made; None where there is
            none, then only lists are looped over.
        bounds: Functions of the file that give the larger and the smaller of two sizes, where Python's ``max`` and
            ``min`` do not: ``{"largest": "jnp.maximum", "smallest": "jnp.minimum"}``.
        state: Slots of layers that hold what no optimizer changes.
    """

    framework: str
    rules: Rules
    helpers: ModuleType
    imports: tuple[str, ...]
    always: frozenset[str] = frozenset()
    reserved: frozenset[str] = frozenset()
    base: str
    init: str | None = "super().__init__()"
    parameters: tuple[str, ...] = ()
    passed_on: Mapping[str, Raw] = {}
    call: str = "forward"
    identity: str | None = None
    empty: str
    gap: str
    sequence: str
    children: str | None = None
    bounds: Mapping[str, str] = {}
    state: frozenset[str] = frozenset()

    # --- values ------------------------------------------------------------------------------------------------------

    def dim(self, value: ir.Value, axis: int) -> Code:
        """A size that is known only when the model runs, as a Python int."""
        return code(f"{{}}.shape[{axis}]", value)

    def tensor_of_ints(self, elements: Elements, value: ir.Value) -> Code:
        """Shape arithmetic as a tensor."""
        raise NotImplementedError

    def read_weights(self, code: Code) -> Code:
        """An expression in which weights that no layer holds stand for their modules' attributes, made to read their
        arrays where those attributes would not do."""
        return code

    # --- modules -----------------------------------------------------------------------------------------------------

    def spelled(self, part: str) -> str:
        """A part of a path as a module can be called."""
        return part

    def module_list(self, kinds: Sequence[str], has_attributes: bool) -> str:
        """The class of a list whose items are of these kinds ("module", or a kind of a weight).

        ``has_attributes``: whether it holds modules or weights under names beside its items.
        """
        raise NotImplementedError

    def item_of_sequence(self, sequence: Code, index: str) -> Code:
        """How an item of a ``sequence`` is reached."""
        return Index(sequence, Const(int(index)))

    def assign(self, owner: Code, name: str, new: Code, kind: str) -> Statement:
        """The statement that puts a module or weight of a kind into its owner; the name may be any text."""
        return Assign(Attr(owner, name), new)

    def get(self, owner: Code, name: str, kind: str) -> Code:
        """How a module or weight is reached whose name is no identifier."""
        raise NotImplementedError

    # --- weights that no layer holds ---------------------------------------------------------------------------------

    def stored(self, value: ir.Value) -> tuple[tuple, ...]:
        """How the framework's array is made of a weight that no layer holds (steps of ``source.weights.View``)."""
        return ()

    def free_weight(self, kind: str, shape: tuple[int, ...], dtype: ir.DataType) -> Code:
        """What makes room for such a weight: "parameter", "frozen", "buffer", or a "constant" that is too large to be
        printed. Its numbers come with the weights."""
        raise NotImplementedError

    def constant(self, array: np.ndarray, dtype: ir.DataType) -> Code | None:
        """What makes a constant of its numbers in the source; None where there are too many."""
        raise NotImplementedError

    # --- the file ----------------------------------------------------------------------------------------------------

    def endings(self, writer: ModuleWriter) -> list[Statement]:
        """Statements at the end of the model's own ``__init__``, when all of its parts are there."""
        return writer.tie_statements()

    def imported(self, used: set[str]) -> list[str]:
        """The import statements of a file that reads attributes of these names."""
        wanted = self.always | used
        return [statement for statement in self.imports if _bound(statement) in wanted]

    def epilogue(self, writer: ModuleWriter, root: Definition) -> list[Statement]:
        """What stands below the classes: functions (``statements.Def``, or ``Text.of`` lines of a template)."""
        return []

    def entry(self, writer: ModuleWriter, root: Definition) -> str:
        """The name that is called, without arguments, to make the model."""
        return root.name

    def stand_in(self, name: str, node: ir.Node, about: list[str]) -> tuple[Code, Def | Class]:
        """What is called for a node that is to be filled in, and its definition, which raises."""
        given = tuple(f"x{i}" for i, v in enumerate(node.inputs) if v is not None)
        error = expression(f'NotImplementedError("{name} is to be filled in")')
        return expression(name), Def(name, given, (printing.docstring(about), Raise(error)))

    # --- what follows from the above ---------------------------------------------------------------------------------

    @property
    def modules(self) -> frozenset[str]:
        """Names that no variable of a file may have."""
        return frozenset({"self", "math", *map(_bound, self.imports), *self.passed_on})

    @property
    def taken(self) -> frozenset[str]:
        """Names that a file gives to no class or function of its own."""
        return self.modules | self.reserved | frozenset(printing.helper_names(self.helpers))


def _bound(statement: str) -> str:
    """The name that an import statement of one name gives to what it imports."""
    return statement.split()[-1]
