"""Grades an answer by the mathematical value of its final answer, with Math-Verify for all that is more than a number."""

import re
from fractions import Fraction
from typing import Literal

from pydantic import field_validator

from evals.graders import math_worker
from evals.graders.answers import (
    FUNCTIONS,
    Answer,
    elements,
    final_answer,
    last_numbers,
    numbers,
    unwrapped,
    words,
)
from evals.graders.grade import Grade
from evals.graders.spec import GraderSpec
from model.chat.events import ParsedMessage

MAX_EXPRESSION = 1000
"""Characters of the longest answer that is read as an expression."""
TOLERANCE = Fraction(1, 10**6)
"""How near a decimal must come to a fraction that has no finite one, as a share of it."""

_WORDS = re.compile(rf"(?<![A-Za-z\\])(?!(?:{FUNCTIONS})(?![A-Za-z]))[A-Za-z]{{2,}}|\d[A-Za-z]\w*\d|\d:\d")
_UNDONE = re.compile(
    r"[+*^!×÷·]|\S\s*-|sqrt|\\(?:times|cdot|div|d?binom|frac|sum|prod|int|log|ln|exp|sin|cos|tan|lfloor|lceil|gcd)"
)
"""Of an answer where a number is wanted: it is left to the grader to work out, as in "12 * 34"."""


class Spec(GraderSpec):
    """answer: the right one, as a number, plain text ("x**2 + 1", "7:35 PM", "1, 2") or LaTeX. ordered: whether the order
    of a list counts."""

    name: Literal["math"]
    answer: str | int | float
    ordered: bool = False

    @field_validator("answer")
    @classmethod
    def _says_something(cls, answer: str | int | float) -> str | int | float:
        if isinstance(answer, str) and not words(answer):
            raise ValueError("it is empty")
        return answer


def judge(spec: Spec, response: ParsedMessage) -> Grade:
    """score: 1 if the final answer has the value of the right one. parts: `format` (it stood in \\boxed{}), `correct`."""
    gold = str(spec.answer)
    found = final_answer(response.content)
    shown = _short(found.line if is_text(gold) else found.text)
    try:
        correct = bool(found.text) and _right(gold, found, ordered=spec.ordered)
        detail = f"{'right' if correct else 'wrong'}: {shown}" if found.text else "no answer"
    except math_worker.GaveUp as error:
        correct, detail = False, f"{error}: {shown}"
    return Grade(
        score=float(correct),
        parts={"format": float(found.boxed), "correct": float(correct)},
        detail=detail if correct else f"{detail}, expected {_short(gold)}",
    )


def _right(gold: str, found: Answer, *, ordered: bool) -> bool:
    if is_text(gold):
        return words(gold) == words(found.line) or (not found.boxed and _ends_with(found.line, gold))
    wanted = elements(gold)
    if len(wanted) == 1:
        return same_value(gold, found.text)
    readings = [found.text] if found.boxed else [found.text, found.line, last_numbers(found.line)]
    return any(_same_list(wanted, elements(reading), ordered=ordered) for reading in readings)


def same_value(gold: str, answer: str) -> bool:
    """Whether two texts have the same mathematical value. Raises GaveUp where that takes too long or too much memory."""
    if "=" not in gold and not re.search(r"[<>]|\\[gln]e", answer):
        answer = answer.rpartition("=")[2]  # 3 + 4 = 7
    if unwrapped(gold) == unwrapped(answer):
        return True
    if is_text(gold) or (len(gold) == 1 and gold.isalpha()):
        return words(gold) == words(answer)
    ours, theirs = numbers(gold), numbers(answer)
    if ours and theirs:
        return any(_near(one, other) for one in ours for other in theirs)
    if ours and _UNDONE.search(unwrapped(answer)):
        return False
    return len(answer) <= MAX_EXPRESSION and math_worker.verify(latex(gold), latex(answer))


def is_text(gold: str) -> bool:
    """Whether it is compared as a text: it has words, a time, or digits with letters between (a number of a high base)."""
    return not numbers(gold) and bool(_WORDS.search(re.sub(r"\\[A-Za-z]+", " ", unwrapped(gold))))


def latex(text: str) -> str:
    """An expression in LaTeX or as typed (x**10, sqrt(2)/2, 3*pi) in LaTeX."""
    text = unwrapped(text).replace("**", "^").replace(r"\sqrt(", "sqrt(")
    text = re.sub(r"\^\s*(-?\d+(?:\.\d+)?)", r"^{\1}", text)
    return re.sub(rf"(?<![\\A-Za-z])({FUNCTIONS})(?![A-Za-z])", _function, text)


def _function(match: re.Match[str]) -> str:
    return match[0] if match[0] == "sqrt" else f"\\{match[0]} "


def _near(one: Fraction, other: Fraction) -> bool:
    if one == other:
        return True
    return _finite(one) != _finite(other) and abs(one - other) <= TOLERANCE * max(abs(one), abs(other))


def _finite(value: Fraction) -> bool:
    """Whether it can be written as a decimal."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _same_list(wanted: list[str], given: list[str], *, ordered: bool) -> bool:
    """The same values, each as often; in order if `ordered`."""
    if len(wanted) != len(given):
        return False
    if ordered:
        return all(map(same_value, wanted, given))
    left = list(given)
    for one in wanted:
        match = next((other for other in left if same_value(one, other)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _ends_with(line: str, gold: str) -> bool:
    """Whether a line ends in "is", a colon or "=" and the gold text."""
    marked = re.sub(r"\bis\s", ":", unwrapped(line))
    return re.search(rf"[:=]{re.escape(words(gold))}$", words(marked)) is not None


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."
