"""A reader without the writer's code: it finds what a question quotes in the document, and answers from there."""

import re
from itertools import pairwise

COUNTS = {"three": 3, "four": 4, "five": 5, "six": 6}
EDGES = " \t,;:.!?…—–-\"'“”‘’«»()[]{}*_`"
SENTENCE_END = re.compile(
    r"(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)(?<!\bNo)(?<!\b[A-Z])[.!?…]+[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[A-Z0-9])"
)


def flat(text: str) -> str:
    return " ".join(text.split())


def quotation(question: str) -> str:
    first = min(mark for mark in (question.find('"'), question.find("`")) if mark >= 0)
    marked = re.search(rf"{question[first]}(.*){question[first]}", question)
    assert marked, question
    return re.sub(r"^\.\.\. | \.\.\.$", "", marked[1])


def look_up(document: str, question: str, kind: str) -> str:
    """The answer, or "" if the quotation is not in the document exactly once."""
    cue = quotation(question)
    whole = flat(document)
    if kind == "parameters":
        found = re.findall(rf"\b(?:def|fn|func|function)\s+{re.escape(cue)}\s*\(([^()]*)\)", document)
        return flat(found[0]) if len(found) == 1 else ""
    if kind in ("line", "next_line"):
        return _in_lines(document, cue, kind)
    if kind in ("word", "name", "number"):
        return _in_gap(whole, cue)
    places = [match.start() for match in re.finditer(re.escape(cue), whole, re.IGNORECASE)]
    if len(places) != 1:
        return ""
    before, after = whole[: places[0]], whole[places[0] + len(cue) :]
    if kind == "after":
        return " ".join(after.split()[: _count(question)]).strip(EDGES) if after[:1].isspace() else ""
    if kind == "before":
        return " ".join(before.split()[-_count(question) :]).strip(EDGES)
    paragraph = next(flat(text) for text in re.split(r"\n\s*\n", document) if cue in flat(text))
    rest = paragraph[paragraph.index(cue) + len(cue) :]
    ends = [0, *(match.end() for match in SENTENCE_END.finditer(paragraph)), len(paragraph)]
    at = len(paragraph) - len(rest)
    if kind == "ending":
        sentence = paragraph[: next(end for end in ends if end > at)].strip()
        return " ".join(sentence.split()[-_count(question) :]).strip(EDGES)
    assert kind == "next_sentence"
    return paragraph[at : next((end for end in ends if end > at + 1), len(paragraph))].strip()


def _count(question: str) -> int:
    outside = question.replace(f'"{quotation(question)}"', "")
    return next(count for word, count in COUNTS.items() if f"{word} words" in outside)


def _in_gap(whole: str, cue: str) -> str:
    left, right = (re.escape(side) for side in cue.split("____"))
    found = re.findall(rf"(?<!\S){left}(\S+?){right}(?!\w)", whole)
    return found[0] if len(found) == 1 else ""


def _in_lines(document: str, cue: str, kind: str) -> str:
    lines = [flat(line) for line in document.splitlines() if line.strip()]
    if kind == "line":
        found = [line.removeprefix(cue).strip() for line in lines if line.startswith(cue)]
    else:
        found = [following for line, following in pairwise(lines) if line == cue]
    return found[0] if len(found) == 1 else ""
