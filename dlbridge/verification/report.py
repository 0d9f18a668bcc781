"""The result of a verification: a ``Check`` for each route and set of inputs, and a ``Report`` with all of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from dlbridge import frameworks
from dlbridge.errors import IllConditionedError, VerificationError, WrittenModelError
from dlbridge.model import Model
from dlbridge.verification.departures.departure import Departure
from dlbridge.verification.departures.depth import Depth
from dlbridge.verification.figures import Figures
from dlbridge.verification.inputs.coverage import Coverage
from dlbridge.verification.measure import Arrays

#: The relative difference of a gradient or weight in float64 that is allowed: constants are float32 in places.
TRAINING_BOUND = 1e-6


@dataclass
class Check:
    """One route on one set of inputs: the error of each output against the judge.

    Attributes:
        route: The route.
        sizes: The sizes of the symbolic dimensions.
        errors: Output -> its error, relative to the largest number of its row, its channel or the whole array,
            whichever is worst.
        bound: The bound of the output that is furthest beyond its bound, or nearest to it.
        passed: Whether every output is within its bound.
        message: What is wrong, or a note about a check that passed.
        bounds: Output -> its bound.
        ill_conditioned: Whether the judge's own rounding is more than its type and the depth of the model explain.
        inputs: The strategies that filled the inputs.
        figures: Output -> how far it is from the judge's, by row, in ULPs, by arg-max.
        decided: Whether anything is shown. A probe that rounding alone moves too far shows nothing, and does not count.
    """

    route: str
    sizes: dict[str, int]
    errors: dict[str, float]
    bound: float
    passed: bool
    message: str = ""
    bounds: dict[str, float] = field(default_factory=dict)
    ill_conditioned: bool = False
    inputs: str = ""
    decided: bool = True
    figures: dict[str, Figures] = field(default_factory=dict)

    @property
    def excess(self) -> float:
        """The largest error as a multiple of its bound: more than 1 is a departure."""
        return max((e / (self.bounds.get(k, self.bound) or 1e-300) for k, e in self.errors.items()), default=0.0)

    @property
    def reason(self) -> str:
        """Why it did not pass; never empty."""
        if self.message:
            return self.message
        at = ", ".join(f"{name}={size}" for name, size in self.sizes.items())
        error = max(self.errors.values(), default=float("inf"))
        return f"error {error:.1e}{f' at {at}' if at else ''}, bound {self.bound:.0e}"


@dataclass
class TrainingCheck:
    """A framework's gradients and weights after some steps, beside those of the first framework.

    Attributes:
        framework: The framework.
        compared_with: The framework that it is compared with, or ``"differences of the loss"``.
        gradients: Weight or input -> the largest difference of its gradient, relative to the largest of it.
        weights: Weight -> the largest difference after the steps of training, relative to the largest of it.
        trouble: Why it could not be trained.
        bound: The relative difference that is allowed.
    """

    framework: str
    compared_with: str
    gradients: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    trouble: str = ""
    bound: float = TRAINING_BOUND

    @property
    def passed(self) -> bool:
        return not self.trouble and all(e <= self.bound for e in (*self.gradients.values(), *self.weights.values()))

    @property
    def reason(self) -> str:
        """Why it did not pass, or how near it is."""
        name, error = self.worst
        return self.trouble or f"{name} differs from {self.compared_with} by {error:.1e}, bound {self.bound:.0e}"

    @property
    def worst(self) -> tuple[str, float]:
        """The name of the weight that is furthest off, and how far."""
        errors = {**{f"gradient of {n}": e for n, e in self.gradients.items()}, **self.weights}
        return max(errors.items(), key=lambda pair: pair[1], default=("", 0.0))


@dataclass(repr=False)
class Report:
    """The result of a verification.

    Attributes:
        model: The model's name.
        judge: What the routes were compared with.
        precision: The types that the judge ran in: its own, or also float64.
        checks: One for each route and set of inputs.
        pairs: (route, route) -> the largest relative difference between them over all inputs and outputs.
        failures: Route -> why it could not be built or run.
        departures: Route -> where its numbers first depart.
        left_out: Route -> why it was not tried: its framework is not installed, and no route was asked for by name.
        inputs_left_out: Inputs that were not tried, each with the reason.
        coverage: What the inputs have reached.
        depth: Route -> node -> the largest error of its values, in the order of the graph, for the first set of inputs.
        without_depth: Route -> why there are no such errors of it, where they were asked for.
        curves: Framework -> the loss of each step, where steps of training were compared.
        training: How gradients and steps of training compare, where that was asked for.
        subject: The model that was verified.
        cases: The sets of inputs, in order.
        hint: What to do about a failure, where that is known.
    """

    model: str
    judge: str = "the original"
    precision: str = "its own types"
    checks: list[Check] = field(default_factory=list)
    pairs: dict[tuple[str, str], float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    departures: dict[str, Departure] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    inputs_left_out: list[str] = field(default_factory=list)
    coverage: Coverage | None = None
    depth: dict[str, Depth] = field(default_factory=dict)
    without_depth: dict[str, str] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    training: list[TrainingCheck] = field(default_factory=list)
    subject: Model | None = None
    cases: list[Arrays] = field(default_factory=list)
    hint: str | None = None

    def __repr__(self) -> str:
        routes = ", ".join([*self.worst(), *self.failures])
        return f"<Report of {self.model}: {'passed' if self.passed else 'not passed'}, {routes}>"

    @property
    def passed(self) -> bool:
        decided = [c for c in self.checks if c.decided]
        trains = all(check.passed for check in self.training)
        return bool(decided) and not self.failures and all(c.passed for c in decided) and trains

    def require(self) -> None:
        """Raise an error unless all routes agree.

        Raises:
            WrittenModelError: When one could not be built or run.
            IllConditionedError: When rounding alone moves the outputs too far for a comparison.
            VerificationError: When one departs, or nothing was compared.
        """
        if self.passed:
            return
        unfit = [f"{route}: {why}" for route, why in self.failures.items()]
        failed = {route: check for route, check in self.worst().items() if not check.passed and check.decided}
        lines = []
        for route, check in failed.items():
            lines.append(f"{route}: {check.reason}")
            if route in self.departures:
                lines.append(f"  {self.departures[route]}")
        if unfit:
            also = [f"does not agree with {self.judge}:", *lines] if lines else []
            text = "cannot be built or run as written:\n    " + "\n    ".join([*unfit, *also])
            plug_ins = [route for route in self.failures if frameworks.is_plug_in(route)]
            to_whom = f" to whoever wrote the plug-in '{plug_ins[0]}'" if plug_ins else ""
            raise WrittenModelError(text, where=self.model, hint=f"please report this{to_whom}")
        apart = [f"training in {c.framework}: {c.reason}" for c in self.training if not c.passed]
        if not lines and apart:
            raise VerificationError("does not train alike:\n    " + "\n    ".join(apart), where=self.model)
        if not lines:
            raise VerificationError("nothing was compared: no route, or no input", where=self.model)
        if all(check.ill_conditioned for check in failed.values()):
            text = f"rounding alone moves it too far to be compared with {self.judge}:\n    " + "\n    ".join(lines)
            hint = "convert without the check (--no-verify, check=False) and compare on data that the model is made for"
            raise IllConditionedError(text, where=self.model, hint=hint)
        text = f"does not agree with {self.judge}:\n    " + "\n    ".join(lines)
        raise VerificationError(text, where=self.model, hint=self.hint)

    @property
    def largest_difference(self) -> float:
        """The largest relative difference between any two routes."""
        return max(self.pairs.values(), default=0.0)

    def worst(self) -> dict[str, Check]:
        """Route -> its worst check: one that failed where any did, and of these the one furthest beyond its bound."""
        found: dict[str, Check] = {}
        for check in self.checks:
            best = found.get(check.route)
            if best is None or _badness(check) > _badness(best):
                found[check.route] = check
        return found

    def to_json(self) -> dict[str, Any]:
        """The report as JSON types, without the numbers that pictures are drawn from."""
        return {
            "model": self.model,
            "judge": self.judge,
            "precision": self.precision,
            "passed": self.passed,
            "hint": self.hint,
            "checks": [asdict(c) for c in self.checks],
            "pairs": [{"routes": list(pair), "difference": value} for pair, value in self.pairs.items()],
            "failures": self.failures,
            "departures": {route: found.to_json() for route, found in self.departures.items()},
            "left_out": self.left_out,
            "inputs_left_out": self.inputs_left_out,
            "training": [{**asdict(c), "passed": c.passed} for c in self.training],
            "coverage": None if self.coverage is None else self.coverage.to_json(),
        }


def _badness(check: Check) -> tuple[bool, bool, float]:
    return check.decided and not check.passed, not check.ill_conditioned, check.excess
