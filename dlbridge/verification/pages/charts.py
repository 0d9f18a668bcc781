"""Charts as SVG: numbers on a logarithmic axis, along a line or scattered in rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from dlbridge.verification.pages.markup import Markup, joined, tag

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 150, 12, 8, 22
_ROW = 26
_HEIGHT = 220
#: Colours that the style sheet has.
COLOURS = 6


class Decades:
    """A logarithmic axis over whole powers of ten.

    Args:
        numbers: What is to be shown. Zeros and what is not finite lie at its ends.
        start: Where the axis starts, in pixels.
        end: Where it ends.
    """

    def __init__(self, numbers: Iterable[float], start: float, end: float) -> None:
        shown = [n for n in numbers if n > 0 and math.isfinite(n)] or [1e-8, 1.0]
        self.low = math.floor(math.log10(min(shown)))
        self.high = max(math.ceil(math.log10(max(shown))), self.low + 1)
        self._start, self._end = start, end

    def __call__(self, number: float) -> float:
        """Where a number lies, in pixels."""
        exponent: float = self.high
        if math.isfinite(number):
            exponent = math.log10(number) if number > 0 else self.low
        part = (min(max(exponent, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self._start + part * (self._end - self._start), 1)

    def ticks(self) -> Iterable[tuple[float, str]]:
        """(where, label) of the powers of ten, at most about ten of them."""
        step = max(1, math.ceil((self.high - self.low) / 10))
        for exponent in range(self.low, self.high + 1, step):
            yield self(10.0**exponent), f"1e{exponent}"


def strip(rows: Mapping[str, Sequence[tuple[float, float]]]) -> Markup:
    """A row for each name with a dot for each number, and its bound as a line.

    Args:
        rows: Name -> (number, bound).
    """
    everything = [n for pairs in rows.values() for pair in pairs for n in pair]
    axis = Decades(everything, _LEFT, _WIDTH - _RIGHT)
    height = _TOP + _ROW * len(rows) + _BOTTOM
    parts = [_vertical(x, label, height) for x, label in axis.ticks()]
    for index, (name, pairs) in enumerate(rows.items()):
        y = _TOP + _ROW * index + _ROW // 2
        marks = [_mark(axis, y, number, bound) for number, bound in pairs]
        parts += [
            tag("text", name, x=_LEFT - 8, y=y + 4, text_anchor="end"),
            tag("g", *marks, class_=f"c{index % COLOURS}"),
        ]
    return _svg(height, parts)


def lines(series: Mapping[str, Sequence[float]], *, title: str) -> Markup:
    """A line for each name over 0, 1, 2, ..., on a logarithmic axis.

    Args:
        series: Name -> numbers.
        title: What the chart shows, for those who do not see it.
    """
    axis = Decades((n for numbers in series.values() for n in numbers), _HEIGHT - _BOTTOM, _TOP)
    longest = max((len(numbers) for numbers in series.values()), default=1)
    step = (_WIDTH - _LEFT - _RIGHT) / max(longest - 1, 1)
    parts = [_horizontal(y, label) for y, label in axis.ticks()]
    for index, numbers in enumerate(series.values()):
        points = " ".join(f"{_LEFT + i * step:.1f},{axis(n)}" for i, n in enumerate(numbers))
        width = max(5 - 1.5 * index, 1.5)  # equal curves lie on top of each other: the later ones are thinner
        parts.append(tag("polyline", points=points, stroke_width=width, class_=f"c{index % COLOURS}"))
    return joined(_svg(_HEIGHT, parts, title), key(series))


def along(
    series: Mapping[str, Sequence[tuple[int, float]]], places: Sequence[str], marks: Mapping[int, str], title: str
) -> Markup:
    """A line for each name over numbered places, on a logarithmic axis; a dot says its place and its number.

    Args:
        series: Name -> (place, number).
        places: What each place is called.
        marks: Place -> what is said of it; a line stands there.
        title: What the chart shows, for those who do not see it.
    """
    numbers = [number for points in series.values() for _, number in points]
    axis = Decades(numbers, _HEIGHT - _BOTTOM, _TOP)
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(places) - 1, 1)
    parts = [_horizontal(y, label) for y, label in axis.ticks()]
    for place, text in marks.items():
        x = round(_LEFT + place * step, 1)
        line = tag("line", tag("title", text), x1=x, x2=x, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="bound")
        parts += [
            line,
            tag("text", text, x=x, y=_HEIGHT - 6, text_anchor="middle" if place * 2 < len(places) else "end"),
        ]
    for index, points in enumerate(series.values()):
        at = [(round(_LEFT + place * step, 1), axis(number)) for place, number in points]
        drawn = tag("polyline", points=" ".join(f"{x},{y}" for x, y in at), stroke_width=1.5)
        dots = [
            tag("circle", tag("title", f"{places[place]}: {number:.2e}"), cx=x, cy=y, r=2.5)
            for (place, number), (x, y) in zip(points, at, strict=True)
        ]
        parts.append(tag("g", drawn, *dots, class_=f"c{index % COLOURS}"))
    return joined(_svg(_HEIGHT, parts, title), key(series))


def key(names: Iterable[str]) -> Markup:
    """The legend: which colour is which name."""
    return tag("div", *(tag("span", f"● {name}", class_=f"key c{i % COLOURS}") for i, name in enumerate(names)))


def _mark(axis: Decades, y: float, number: float, bound: float) -> Markup:
    at = axis(bound)
    line = tag("line", x1=at, x2=at, y1=y - 9, y2=y + 9, class_="bound")
    dot = tag("circle", tag("title", f"{number:.2e}, bound {bound:.0e}"), cx=axis(number), cy=y, r=4)
    return joined(line, dot)


def _vertical(x: float, label: str, height: int) -> Markup:
    line = tag("line", x1=x, x2=x, y1=_TOP, y2=height - _BOTTOM, class_="axis")
    return joined(line, tag("text", label, x=x, y=height - 6, text_anchor="middle"))


def _horizontal(y: float, label: str) -> Markup:
    line = tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="axis")
    return joined(line, tag("text", label, x=_LEFT - 8, y=y + 4, text_anchor="end"))


def _svg(height: int, parts: Sequence[Markup], title: str = "") -> Markup:
    return tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {height}", width=_WIDTH, role="img", aria_label=title or None)
