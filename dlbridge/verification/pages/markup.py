"""HTML and SVG from elements: text is escaped, elements are not."""

from __future__ import annotations

from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element.

    Args:
        name: Its name.
        *children: What is in it: elements (:class:`Markup`), and text, which is escaped.
        **attributes: Its attributes; ``class_`` stands for ``class``, ``_`` in a name for ``-``. None leaves one out.
    """
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    said = "".join(f' {key}="{escape(str(value))}"' for key, value in given.items())
    return Markup(f"<{name}{said}>{joined(*children)}</{name}>")


def joined(*children: str) -> Markup:
    """Elements and text one after the other."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))
