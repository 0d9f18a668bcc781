"""What code asks of sizes that are not known: how one compares with another, which decides the way that it takes."""

from __future__ import annotations

import linecache
import sys
from dataclasses import dataclass

from dlbridge import constraints
from dlbridge.constraints import Expression

#: Python's comparisons, and that of two which holds where the other does not.
_NEGATIONS = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
#: Libraries that compare sizes to check them.
_LIBRARIES = {"dlbridge", "jax", "keras", "numpy", "onnx_ir", "optree", "tensorflow", "torch"}

#: The modules by which a size of Python code asks.
_OWN = {__name__, f"{__package__}.sizes"}


class UnknownSizeError(ValueError):
    """Code asks for the number of an unknown size."""


@dataclass(frozen=True)
class Asked:
    """A question that code has asked of sizes.

    Attributes:
        condition: The comparison that holds by the answer: ``t % 2 != 1``.
        question: The comparison as it was asked: ``t % 2 == 1``.
        line: Where it was asked, and the code there.
        both: Whether the code got no answer, and was read for both.
    """

    condition: str
    question: str
    line: str
    both: bool = False


class Questions:
    """The questions that code has asked, and what it was told.

    Attributes:
        stated: What the user says of sizes: ``2 <= n``.
        asked: What code has asked of sizes, by question.
        unanswered: The questions to which code gets no answer.
        turned: The questions that are not answered as the primes do.
        required: What the sizes must keep besides, for what was read to be right.
    """

    def __init__(self) -> None:
        self.stated: list[Expression] = []
        self.asked: dict[str, Asked] = {}
        self.unanswered: frozenset[str] = frozenset()
        self.turned: set[str] = set()
        self.required: dict[str, Expression] = {}

    def answer(self, a: str, how: str, b: str, usual: bool) -> bool:
        """What code is told that asks for a comparison of sizes, which is noted.

        Args:
            a, b: The sizes, as text.
            how: The comparison, as Python writes it.
            usual: The answer that the primes give.

        Raises:
            UnknownSizeError: When the code is to get no answer.
        """
        line = line_of_user()
        if line is None:
            return usual
        question = f"{_bare(a)} {how} {_bare(b)}"
        negation = question.replace(f" {how} ", f" {_NEGATIONS[how]} ")
        if question in self.unanswered:
            self.asked |= {one: Asked(one, question, line, both=True) for one in (question, negation)}
            raise UnknownSizeError(f"it asks whether {question} ({line})")
        known = self.asked.get(question)
        if known is not None:
            return known.condition == question
        stated = self._stated_answer(question)
        answer = usual is not (question in self.turned) if stated is None else stated
        self.asked[question] = Asked(question if answer else negation, question, line)
        return answer

    def _stated_answer(self, question: str) -> bool | None:
        """The answer that follows from what the user states, if one does."""
        if not self.stated:
            return None
        for text, answer in ((f"not ({question})", True), (question, False)):
            other = Expression(text)
            if constraints.fit([other, *self.stated], dict.fromkeys(other.names, 1)) is None:
                return answer
        return None

    def require_more_than_one(self, size: str) -> bool:
        """Require of a size that it is above 1; whether it could be 1 otherwise."""
        one = Expression(f"{size} == 1")
        if constraints.fit([one, *self.stated], dict.fromkeys(one.names, 1)) is None:
            return False
        self.required[size] = Expression(f"{size} >= 2")
        return True

    def turn(self, question: str) -> None:
        """Answer a question the other way from now on."""
        self.turned ^= {question}
        self.asked.pop(question, None)


def line_of_user() -> str | None:
    """The line that asks, if it is in the user's code; None for a library's."""
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__") in _OWN and frame.f_back is not None:
        frame = frame.f_back
    if str(frame.f_globals.get("__name__")).partition(".")[0] in _LIBRARIES:
        return None
    path, number = frame.f_code.co_filename, frame.f_lineno
    return f"{path}:{number}: {linecache.getline(path, number).strip()}".removesuffix(": ")


def _bare(text: str) -> str:
    """Text without the brackets around all of it."""
    inner = text[1:-1]
    return inner if text.startswith("(") and text.endswith(")") and not {"(", ")"} & set(inner) else text
