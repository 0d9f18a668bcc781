"""The statements that make a class's members: numbered ones become lists, paths that nothing makes empty modules."""

from __future__ import annotations

from dlbridge.source.definitions import Definition
from dlbridge.source.dialect import Dialect
from dlbridge.source.names import is_index, is_plain
from dlbridge.source.statements import member_texts

#: Kinds of what stands in lists.
LISTED = ("module", "parameter", "frozen")


def member_statements(dialect: Dialect, definition: Definition) -> list[str]:
    """The assignments of ``__init__``."""
    return _Members(dialect, definition).statements()


class _Members:
    def __init__(self, dialect: Dialect, definition: Definition) -> None:
        self.dialect = dialect
        self.texts = {member.name: text for member, text in member_texts(definition, dialect.identity)}
        self.kinds = {member.name: member.kind for member in definition.written.members}
        self.done: set[str] = set()

    def statements(self) -> list[str]:
        lines: list[str] = []
        for name in self.texts:
            if name in self.done:
                continue
            lines += self._parents(name)
            container = self._container(name)
            if container is None:
                lines.append(self._put(name, self.texts[name], self.kinds[name]))
            elif container not in self.done:  # it may be an item of a list itself
                lines.append(self._put(container, self._nested(container)))
        return lines

    def _parents(self, name: str) -> list[str]:
        """Empty modules for the parts of a path that nothing makes."""
        lines = []
        parts = (self._container(name) or name).split(".")[:-1]
        for length in range(1, len(parts) + 1):
            path = ".".join(parts[:length])
            if path not in self.texts and path not in self.done:
                lines.append(self._put(path, self._nested(path)))
        return lines

    def _put(self, path: str, text: str, kind: str = "module") -> str:
        """The statement that puts what a text makes at a path."""
        owner, _, last = path.rpartition(".")
        if owner and is_index(last):
            return f"{self._attribute(path)} = {text}"
        return self.dialect.assign(self._attribute(owner), last, text, kind)

    def _attribute(self, path: str) -> str:
        text = "self"
        for part in path.split(".") if path else ():
            if is_index(part) and text != "self":
                text += f"[{part}]"
            else:
                text = f"{text}.{part}" if is_plain(part) else self.dialect.get(text, part, "module")
        return text

    def _nested(self, path: str) -> str:
        """A module that stands at a path: what is made there, a list of numbered ones, or an empty one."""
        self.done.add(path)
        if path in self.texts:
            return self.texts[path]
        heads = {n[len(path) + 1 :].partition(".")[0] for n in self.texts if n.startswith(path + ".")}
        numbers = sorted(int(head) for head in heads if is_index(head))
        if not numbers:
            return self.dialect.empty
        items = {number: self._nested(f"{path}.{number}") for number in numbers}
        return self._list([items.get(i, self.dialect.gap) for i in range(max(numbers) + 1)], path)

    def _list(self, items: list[str], path: str) -> str:
        kinds = [self.kinds.get(f"{path}.{i}", "module") for i in range(len(items))]
        kind = self.dialect.module_list(kinds)
        if len(set(items)) == 1 and len(items) > 2:
            return f"{kind}([{items[0]} for _ in range({len(items)})])"
        return f"{kind}([{', '.join(items)}])"

    def _container(self, name: str) -> str | None:
        """The list that a name is an item of; lists hold modules and parameters."""
        container, _, last = name.rpartition(".")
        return container if container and is_index(last) and self.kinds[name] in LISTED else None
