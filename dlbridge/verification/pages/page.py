"""A report as one HTML file that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources

from dlbridge import __version__, picture
from dlbridge.model import Model
from dlbridge.verification.inputs.coverage import Coverage
from dlbridge.verification.pages import charts
from dlbridge.verification.pages.markup import Markup, joined, tag
from dlbridge.verification.report import Check, Report

#: Models with more nodes than this are not drawn: nobody finds anything in such a picture.
_LARGEST_PICTURE = 400
#: Nodes of which the range of values is listed.
_LONGEST_LIST = 400


def html(report: Report, model: Model, histories: Mapping[str, Mapping[str, Sequence[float]]] | None = None) -> str:
    """The report as an HTML document.

    Args:
        report: The report.
        model: The model that was verified.
        histories: Framework -> metric -> one number for each epoch or step, where the frameworks were trained; the
            losses of the report's steps of training when None.
    """
    histories = histories or {name: {"loss": losses} for name, losses in report.curves.items()}
    sections = [
        _routes(report),
        _depth(report, model),
        _errors(report),
        _pairs(report),
        *([_coverage(report.coverage, report.inputs_left_out)] if report.coverage is not None else []),
        *([_training(histories)] if histories else []),
        _graph(report, model),
    ]
    style = resources.files("dlbridge.verification.pages").joinpath("page.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", f"{report.model}: {_verdict(report)[1]}"),
        tag("style", Markup(style)),
    )
    body = tag("body", _header(report), *sections, tag("p", f"dlbridge {__version__}", class_="soft"))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _verdict(report: Report) -> tuple[str, str]:
    """(class of the style sheet, the verdict in one sentence)."""
    if report.passed:
        return "good", f"every route agrees with {report.judge}"
    failed = [check for check in report.worst().values() if check.decided and not check.passed]
    if not report.failures and not failed:
        return "doubt", "nothing was compared"
    if not report.failures and all(check.ill_conditioned for check in failed):
        return "doubt", f"rounding alone moves it too far to be compared with {report.judge}"
    names = [*report.failures, *(check.route for check in failed)]
    return "bad", f"{', '.join(names)} {'does' if len(names) == 1 else 'do'} not agree with {report.judge}"


def _header(report: Report) -> Markup:
    kind, verdict = _verdict(report)
    tried = sum(check.decided for check in report.checks)
    return joined(
        tag("h1", report.model),
        tag("p", verdict[0].upper() + verdict[1:] + ".", class_=f"verdict {kind}"),
        tag("p", f"{tried} comparisons with {report.judge}, which ran in {report.precision}.", class_="soft"),
    )


def _section(title: str, *content: Markup) -> Markup:
    return tag("section", tag("h2", title), *content)


# --- the comparisons --------------------------------------------------------------------------------------------------


def _routes(report: Report) -> Markup:
    rows = [_route(report, name, check) for name, check in report.worst().items()]
    rows += [_unfit(name, tag("span", "failed", class_="bad"), why) for name, why in report.failures.items()]
    rows += [_unfit(name, tag("span", "not tried", class_="soft"), why) for name, why in report.left_out.items()]
    return _section("Routes", _table(("route", "*largest error", "*bound", "with", ""), rows))


def _route(report: Report, name: str, check: Check) -> Sequence[str]:
    if not check.decided:
        verdict = joined(tag("span", "shows nothing", class_="doubt"), " ", check.message)
    elif check.passed:
        verdict = joined(tag("span", "agrees", class_="good"), " ", check.message)
    else:
        where = str(report.departures.get(name, ""))
        verdict = joined(tag("span", "departs", class_="bad"), " ", check.reason, tag("div", where))
    error = max(check.errors.values(), default=float("inf"))
    return name, f"{error:.1e}", f"{check.bound:.0e}", _inputs(check), verdict


def _unfit(name: str, verdict: Markup, why: str) -> Sequence[str]:
    return name, "", "", "", joined(verdict, " ", why)


def _inputs(check: Check) -> str:
    sizes = [f"{name}={size}" for name, size in check.sizes.items()]
    return ", ".join([*sizes, check.inputs] if check.inputs else sizes)


def _depth(report: Report, model: Model) -> Markup:
    """The errors of the nodes along the depth, with the nodes where routes depart."""
    if not report.depth and not report.without_depth:
        return Markup()
    order = [node.name or node.outputs[0].name or "" for node in model.graph]
    series = {
        name: [(place, found[node]) for place, node in enumerate(order) if node in found]
        for name, found in report.depth.items()
    }
    departed = {d.node: f"{route} departs: {d.node}" for route, d in report.departures.items() if d.node in order}
    said = (
        f"The largest error of each of {len(order)} nodes, relative to its largest number, from inputs to outputs: what"
        " dlbridge writes in its own types, another model in float64."
    )
    marks = {order.index(node or ""): text for node, text in departed.items()}
    missing = [tag("p", f"Not shown for {name}: {why}.", class_="soft") for name, why in report.without_depth.items()]
    drawn = [tag("p", said, class_="soft"), charts.along(series, order, marks, "Errors by node")] if series else []
    return _section("Errors along the depth", *drawn, *missing)


def _errors(report: Report) -> Markup:
    rows: dict[str, list[tuple[float, float]]] = {}
    for check in report.checks:
        for output, error in check.errors.items():
            rows.setdefault(check.route, []).append((error, check.bounds.get(output, check.bound)))
    if not rows:
        return Markup()
    said = "Each dot is the error of one output for one set of inputs; the dashed lines are the bounds."
    return _section("Errors", tag("p", said, class_="soft"), charts.strip(rows))


def _pairs(report: Report) -> Markup:
    if not report.pairs:
        return Markup()
    names = list(dict.fromkeys(name for pair in report.pairs for name in pair))
    rows = [(name, *(_difference(report, name, other) for other in names)) for name in names]
    return _section("Any two routes", _table(("largest difference", *(f"*{name}" for name in names)), rows))


def _difference(report: Report, one: str, other: str) -> str:
    found = report.pairs.get((one, other), report.pairs.get((other, one)))
    return "" if found is None else f"{found:.1e}"


# --- what was reached -------------------------------------------------------------------------------------------------


def _coverage(coverage: Coverage, left_out: Sequence[str]) -> Markup:
    rows = [(name, f"{low:.4g}", f"{high:.4g}") for name, (low, high) in coverage.inputs.items()]
    gaps = [*coverage.unreached, *coverage.dead, *left_out, *([coverage.trouble] if coverage.trouble else [])]
    tables = [(name, f"{read} of {size}") for name, (read, size) in coverage.tables.items()]
    return _section(
        "What the inputs reached",
        tag("p", f"{coverage.reached} of {coverage.nodes} nodes."),
        _table(("input", "*least", "*largest"), rows),
        *([_table(("table", "*rows read"), tables)] if tables else []),
        *([tag("p", "Not shown by this report:"), tag("ul", *(tag("li", gap) for gap in gaps))] if gaps else []),
        *([_ranges(coverage)] if coverage.ranges else []),
    )


def _ranges(coverage: Coverage) -> Markup:
    rows = [(name, f"{low:.4g}", f"{high:.4g}") for name, (low, high) in coverage.ranges.items()]
    shown = rows[:_LONGEST_LIST]
    title = f"Values of {len(rows)} nodes" + (f", the first {len(shown)}" if len(shown) < len(rows) else "")
    return tag("details", tag("summary", title), _table(("node", "*least", "*largest"), shown))


# --- training and the graph -------------------------------------------------------------------------------------------


def _training(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> Markup:
    metrics = dict.fromkeys(metric for history in histories.values() for metric in history)
    parts = []
    for metric in metrics:
        curves = {name: history[metric] for name, history in histories.items() if metric in history}
        parts += [tag("h3", metric), charts.lines(curves, title=f"{metric} in training")]
    return _section("Training", *parts)


def _graph(report: Report, model: Model) -> Markup:
    if model.graph.num_nodes() > _LARGEST_PICTURE:
        return Markup()
    marked = [node.name for node in model.graph if node.name and any(_names(report, node.name))]
    drawn = picture.svg(model, marked=marked).replace("<svg ", '<svg class="model" ', 1)
    shown = tag("div", Markup(drawn), class_="wide")
    return _section("The model", shown if marked else tag("details", tag("summary", "Picture"), shown))


def _names(report: Report, node: str) -> Iterator[bool]:
    """Whether each departure is at the node."""
    for departure in report.departures.values():
        yield departure.node == node


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """A table; the columns whose titles begin with an asterisk hold numbers."""
    kinds = ["number" if title.startswith("*") else None for title in columns]
    head = tag("tr", *(tag("th", t.removeprefix("*"), class_=k) for t, k in zip(columns, kinds, strict=True)))
    body = [tag("tr", *(tag("td", c, class_=k) for c, k in zip(row, kinds, strict=True))) for row in rows]
    return tag("div", tag("table", head, *body), class_="wide")
