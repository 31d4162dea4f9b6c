"""Finds the final answer in a text, and reads a text as a number or as a list. All in time linear in the text."""

import re
from fractions import Fraction
from typing import NamedTuple

TAIL = 4000
"""How many characters at the end of a text an answer without a box is looked for in."""

FUNCTIONS = "arccos|arcsin|arctan|cos|exp|ln|log|pi|sin|sqrt|tan|theta"

_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")
_MARK = re.compile(r"(?:\banswer\b\W{0,4}(?:is\b|:|=)|####)[\s:*]*", re.IGNORECASE)
_FORMULA = re.compile(r"\$\$([^$]+)\$\$|(?<!\\)\$([^$\n]+)(?<!\\)\$|\\\((.{1,999}?)\\\)|\\\[(.{1,999}?)\\\]")
_SCALES = "hundred|thousand|million|billion|trillion|dozen"
_LAST_NUMBER = (
    r"(?:(?<![\w)])[-+])?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:\s?/\s?\d+)?(?:\s?\\?%)?"
    rf"(?:\s(?:{_SCALES})\b)?"
)
_NUMBER_AT = re.compile(_LAST_NUMBER)
_NUMBERS_AT = re.compile(rf"{_LAST_NUMBER}(?:\s*(?:,?\s*and\s|,?\s*or\s|[,;])\s*{_LAST_NUMBER})+")
_WORD = re.compile(rf"(?<![\\A-Za-z])(?!(?:{FUNCTIONS})(?![A-Za-z]))[A-Za-z]{{2,}}")

_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d)")
_NAME = re.compile(r"^[A-Za-z]\w?\s*=\s*(?=[^=]*$)")
_DECIMAL = r"(?:\d+(?:\.\d*)?|\.\d+)"
_FRACTION = r"\\frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))"
_NUMBER = re.compile(
    rf"([-+]?)\s*(?:(?:(\d+)\s+)?(\d+)\s*/\s*(\d+)|(\d+)?\s*{_FRACTION}"
    rf"|({_DECIMAL})(?:\s*(?:\\times|\\cdot|×|\*)\s*10\s*\^\s*\{{?\s*([-+]?\d+)\s*\}}?|[eE]([-+]?\d+))?)"
    r"(\s*\\?%|\s*per ?cent(?:age)?)?(.*)",
    re.DOTALL,
)
_UNIT = re.compile(r"\s*(?:\^?\s*\{?\s*(?:\\circ|°)\s*\}?\s*[CF]?)?|\s+[A-Za-z°²³][A-Za-z°²³/^\d\s.*-]{1,40}")
_NO_UNITS = re.compile(
    rf"\b(?:{FUNCTIONS}|and|or|plus|minus|times|over|to|by|thousand|million|billion|dozen|hundred)\b"
)


class Answer(NamedTuple):
    """text: the answer, "" if there is none. line: the line it was found in. boxed: it stood in \\boxed{}."""

    text: str
    line: str
    boxed: bool


def final_answer(text: str) -> Answer:
    """What the last closed \\boxed{} holds; else what stands behind the last "answer is", "answer:" or "####": of a
    sentence the first formula or number; else the last line: of a sentence the last formula or number."""
    boxes = list(_BOX.finditer(text))[-20:]
    for box in reversed(boxes):
        if (end := _closing(text, box.end())) is not None:
            inside = text[box.end() : end].strip()
            return Answer(inside, inside, True)
    if boxes:  # one that was never closed
        return Answer("", "", False)
    tail = re.sub(r"(?<=\\\[)\s+|\s+(?=\\\])", "", text[-TAIL:]).strip()  # a formula on lines of its own
    marks = list(_MARK.finditer(tail))
    lines = tail[marks[-1].end() :].splitlines() if marks else tail.splitlines()[-1:]
    line = lines[0].strip() if lines else ""
    formulas = [next(filter(None, groups), "") for groups in _FORMULA.findall(line)]
    if not formulas and _WORD.search(line):
        formulas = _NUMBER_AT.findall(line) or _NUMBER_AT.findall(tail)[-1:]
    if not formulas:
        return Answer(line, line, False)
    return Answer(formulas[0 if marks else -1], line, False)


def last_numbers(text: str) -> str:
    """The last numbers in a row, as in "the roots are 1, 2 and 3"; "" if there are no two."""
    found = list(_NUMBERS_AT.finditer(text[-TAIL:]))
    return found[-1][0] if found else ""


def numbers(text: str) -> frozenset[Fraction]:
    """The values of a text that is one number: two for a percentage (50% is 50 and 1/2), none for anything else.

    Takes integers, decimals, fractions, mixed numbers, powers of ten, thousands separators, a currency sign before it
    or a unit behind it, and "x =".
    """
    match = _NUMBER.fullmatch(unwrapped(text))
    if match is None:
        return frozenset()
    sign, whole, above, below, whole_, *fraction, decimal, power, exponent, percent, unit = match.groups()
    if not _UNIT.fullmatch(unit) or _NO_UNITS.search(unit):
        return frozenset()
    try:
        if decimal:
            shift = int(power or exponent or 0)
            if abs(shift) > 400:
                return frozenset()
            value = Fraction(decimal) * Fraction(10) ** shift
        else:
            above, below = above or fraction[0] or fraction[1], below or fraction[2] or fraction[3]
            value = int(whole or whole_ or 0) + Fraction(int(above), int(below))
    except (ValueError, ZeroDivisionError):
        return frozenset()
    value = -value if sign == "-" else value
    return frozenset((value, value / 100)) if percent else frozenset((value,))


def elements(text: str) -> list[str]:
    """The members of a list: "1, 2 and 3", "{1, 2}", "x = 1 or x = 2". One if it is no list.

    Commas in brackets and those of thousands do not separate.
    """
    text = unwrapped(text)
    if text.startswith(("{", r"\{")) and text.endswith("}"):
        text = text.removeprefix("\\")[1:-1].removesuffix("\\")
    text = re.sub(r",?\s+(?:and|or)\s+|;", ", ", text)
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth <= 0:
            parts.append(text[start:at])
            start = at + 1
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]


def unwrapped(text: str) -> str:
    """The text without what only typesets it: dollars, \\text, \\left, \\dfrac, thousands separators, a full stop, "x ="."""
    text = text.replace("−", "-").replace("{,}", ",")
    text = re.sub(r"\\(?:left|right|displaystyle)(?![A-Za-z])|(?<!\\)\\[!,;: ]|~", " ", text)
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = _TEXT.sub(r" \1", text).strip().strip("*`").strip()
    text = text.rstrip(".").strip()
    for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if len(text) > len(opening) and text.startswith(opening) and text.endswith(closing):
            text = text[len(opening) : -len(closing)].strip().rstrip(".")
    text = _NAME.sub("", text).strip()
    text = re.sub(r"(?<!\w)([-+]?)\s*(?:\\?\$|[€£¥])\s*(?=[-+]?[\d.])", r"\1", text)
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    return " ".join(text.split())


def words(text: str) -> str:
    """The text in the form in which words are compared: case, spaces and quotes don't count."""
    return re.sub(r"[\s\"'`*_$]", "", unwrapped(text)).casefold()


def _closing(text: str, start: int) -> int | None:
    """Where the brace that was opened before `start` closes; None: it does not within TAIL characters."""
    depth = 1
    for match in re.finditer(r"\\.|[{}]", text[start : start + TAIL], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return start + match.start()
    return None
