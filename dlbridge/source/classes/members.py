"""The statements that make a class's members: numbered ones become lists, paths that nothing makes empty modules."""

from __future__ import annotations

from dlbridge.source.bodies import made_members
from dlbridge.source.classes.dialect import Dialect
from dlbridge.source.definitions import Definition
from dlbridge.source.names import is_index, is_plain
from dlbridge.source.tree.code import call, expression
from dlbridge.source.tree.expr import Attr, Comprehension, Const, Expr, Index, Items, Name
from dlbridge.source.tree.expr_printer import text_of
from dlbridge.source.tree.statements import Assign, Statement

#: Kinds of what stands in lists.
LISTED = ("module", "parameter", "frozen")


def member_statements(dialect: Dialect, definition: Definition) -> list[Statement]:
    """The assignments of ``__init__``."""
    return _Members(dialect, definition).statements()


class _Members:
    def __init__(self, dialect: Dialect, definition: Definition) -> None:
        self.dialect = dialect
        self.made = {member.name: new for member, new in made_members(definition, dialect.identity)}
        self.kinds = {member.name: member.kind for member in definition.written.members}
        self.done: set[str] = set()

    def statements(self) -> list[Statement]:
        lines: list[Statement] = []
        for name in self.made:
            if name in self.done:
                continue
            lines += self._parents(name)
            container = self._container(name)
            if container is None:
                lines.append(self._put(name, self.made[name], self.kinds[name]))
            elif container not in self.done:  # it may be an item of a list itself
                lines.append(self._put(container, self._nested(container)))
        return lines

    def _parents(self, name: str) -> list[Statement]:
        """Empty modules for the parts of a path that nothing makes."""
        lines = []
        parts = (self._container(name) or name).split(".")[:-1]
        for length in range(1, len(parts) + 1):
            path = ".".join(parts[:length])
            if path not in self.made and path not in self.done:
                lines.append(self._put(path, self._nested(path)))
        return lines

    def _put(self, path: str, new: Expr, kind: str = "module") -> Statement:
        """The statement that puts what is made at a path."""
        owner, _, last = path.rpartition(".")
        if owner and is_index(last):
            return Assign(self._attribute(path), new)
        return self.dialect.assign(self._attribute(owner), last, new, kind)

    def _attribute(self, path: str) -> Expr:
        made: Expr = Name("self")
        for index, part in enumerate(path.split(".") if path else ()):
            if is_index(part) and index:
                made = Index(made, Const(int(part)))
            else:
                made = Attr(made, part) if is_plain(part) else self.dialect.get(made, part, "module")
        return made

    def _nested(self, path: str) -> Expr:
        """A module that stands at a path: what is made there, a list of numbered ones, or an empty one."""
        self.done.add(path)
        if path in self.made:
            return self.made[path]
        heads = {n[len(path) + 1 :].partition(".")[0] for n in self.made if n.startswith(path + ".")}
        numbers = sorted(int(head) for head in heads if is_index(head))
        if not numbers:
            return expression(self.dialect.empty)
        items = {number: self._nested(f"{path}.{number}") for number in numbers}
        gap = expression(self.dialect.gap)
        has_attributes = len(numbers) < len(heads)
        return self._list([items.get(i, gap) for i in range(max(numbers) + 1)], path, has_attributes)

    def _list(self, items: list[Expr], path: str, has_attributes: bool) -> Expr:
        kinds = [self.kinds.get(f"{path}.{i}", "module") for i in range(len(items))]
        kind = self.dialect.module_list(kinds, has_attributes)
        if len(set(map(text_of, items))) == 1 and len(items) > 2:
            count = expression(f"range({len(items)})")
            return call(kind, Comprehension("[", items[0], "_", count))
        return call(kind, Items("[", tuple(items)))

    def _container(self, name: str) -> str | None:
        """The list that a name is an item of; lists hold modules and parameters."""
        container, _, last = name.rpartition(".")
        return container if container and is_index(last) and self.kinds[name] in LISTED else None
