"""Draws the history of trainings as SVG, without matplotlib: a panel for each metric, a line for each training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from dlbridge.training.result import History

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _GAP = 360, 220, 56, 28, 30, 16
_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")


def svg(histories: Mapping[str, History]) -> str:
    """The picture; lines of validation are dotted.

    Args:
        histories: Name in the legend -> history.
    """
    metrics = list(dict.fromkeys(m.removeprefix("val_") for h in histories.values() for m in h))
    height = _HEIGHT + 20 * len(histories) + 8
    width = (_WIDTH + _GAP) * len(metrics)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for place, metric in enumerate(metrics):
        panel = _panel(metric, histories)
        parts.append(f'<g transform="translate({place * (_WIDTH + _GAP)} 0)">{panel}</g>')
    for place, name in enumerate(histories):
        y = _HEIGHT + 20 * place + 14
        parts.append(f'<circle cx="{_LEFT}" cy="{y - 4}" r="4" fill="{_COLOURS[place % len(_COLOURS)]}"/>')
        parts.append(f'<text x="{_LEFT + 10}" y="{y}">{escape(name)} (dotted: validation)</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(metric: str, histories: Mapping[str, History]) -> str:
    shown = [(i, k, h[k]) for i, h in enumerate(histories.values()) for k in (metric, f"val_{metric}") if k in h]
    numbers = [n for _, _, line in shown for n in line if math.isfinite(n)] or [0.0]
    low, high = min(numbers), max(numbers)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    longest = max(len(line) for _, _, line in shown)
    parts = [f'<text x="{_LEFT}" y="16" font-weight="bold">{escape(metric)}</text>']
    for part in range(5):
        number = low + (high - low) * part / 4
        y = _y(number, low, high)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{number:.4g}</text>')
    for epoch in sorted({1, (longest + 1) // 2, longest}):
        x = _x(epoch - 1, longest)
        parts.append(f'<text x="{x}" y="{_HEIGHT - 10}" text-anchor="middle">{epoch}</text>')
    for place, key, line in shown:
        parts.append(_line(line, longest, low, high, _COLOURS[place % len(_COLOURS)], key.startswith("val_"), place))
    return "".join(parts)


def _line(
    numbers: Sequence[float], longest: int, low: float, high: float, colour: str, is_dotted: bool, place: int
) -> str:
    points = [(_x(i, longest), _y(n, low, high)) for i, n in enumerate(numbers) if math.isfinite(n)]
    width = max(5 - 1.5 * place, 1.5)  # equal curves lie on top of each other: the later ones are thinner
    style = ' stroke-dasharray="2 4"' if is_dotted else ""
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="{width / 2}" fill="{colour}"/>' for x, y in points[:1])
    shown = " ".join(f"{x},{y}" for x, y in points)
    return f'{dots}<polyline points="{shown}" fill="none" stroke="{colour}" stroke-width="{width}"{style}/>'


def _x(place: int, longest: int) -> float:
    return round(_LEFT + place * (_WIDTH - _LEFT) / max(longest - 1, 1), 1)


def _y(number: float, low: float, high: float) -> float:
    return round(_TOP + (high - number) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)
