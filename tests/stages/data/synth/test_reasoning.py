import datetime
import re
from collections.abc import Iterator

import pytest
import sympy
from math_verify import parse, verify

from evals.graders.grade import grade_text
from stages.data.synth.catalog import FAMILIES
from stages.data.synth.dice import Dice
from stages.data.synth.problem import Family, Sample, Style
from stages.data.synth.reasoning.base import ReasoningProblem

REASONING = [family for family in FAMILIES.values() if family.kind in ("reasoning", "recall")]
STYLES = [Style(trace, held_out) for trace in ("short", "long", "checked") for held_out in (False, True)]


def drawn(family: Family, level: int, count: int) -> Iterator[tuple[ReasoningProblem, Sample]]:
    dice = Dice("test", family.name, level)
    for number in range(count):
        problem = family.draw(level, dice)
        assert isinstance(problem, ReasoningProblem)
        yield problem, problem.write(dice, STYLES[number % len(STYLES)])


@pytest.mark.parametrize("family", REASONING, ids=lambda family: family.name)
def test_answers_and_traces_hold_at_every_level(family: Family) -> None:
    """Writing verifies the trace and compares it with the answer; the grader has to agree."""
    for level in (1, 2, 3, 4, 5, 7, family.max_level or 12, family.max_level or 50):
        for problem, sample in drawn(family, level, 30 if level < 8 else 6):
            question, answer = sample.messages
            assert (question["role"], answer["role"]) == ("user", "assistant")
            assert "{" not in question["content"]
            assert question["content"].count("[") == question["content"].count("]")
            assert grade_text(sample.grader, answer["content"]).score == 1
            assert grade_text(sample.grader, f"The answer is {problem.answer + 1}.").score == 0
            lines = answer["reasoning_content"].split("\n")
            assert len(lines) == sample.metadata["trace_lines"]
            assert all(line.strip() == line and line for line in lines)


@pytest.mark.parametrize("family", REASONING, ids=lambda family: family.name)
def test_a_wrong_figure_in_a_trace_is_found(family: Family) -> None:
    """Every digit of a claim is changed in turn; prose (labels, places) is left alone."""
    found = changed = 0
    for problem, sample in drawn(family, 2, 12):
        lines = sample.messages[-1]["reasoning_content"].split("\n")
        for number, line in enumerate(lines):
            start = line.rfind(": ") + 1 if "; " not in line else 0
            for match in re.finditer(r"\d", line):
                if (
                    match.start() < start
                    or " = " not in line
                    or "write" in line
                    or "now " in line
                    or "at (" in line
                ):
                    continue
                other = (int(match[0]) + 1) % (2 if family.name == "booleans" else 10)
                wrong = line[: match.start()] + str(other) + line[match.end() :]
                changed += 1
                try:
                    problem.verify([*lines[:number], wrong, *lines[number + 1 :]])
                except ValueError:
                    found += 1
    if family.name in ("graphs", "copies"):  # their lines are no equations
        return
    # what is left are true claims of another kind: min(5, 30) = 5 with another 30, not (1 or 1) for not (1 or 0)
    assert changed > 20
    loose = {"ordering": 0.5, "booleans": 0.5, "lists": 0.6, "counting": 0.7, "grid": 0.8, "remainders": 0.9}
    assert found / changed > loose.get(family.name, 0.95)


def test_a_wrong_digit_of_a_copy_is_found() -> None:
    for problem, sample in drawn(FAMILIES["copies"], 2, 12):
        lines = sample.messages[-1]["reasoning_content"].split("\n")
        assert len(str(problem.answer)) == 8
        for number, line in enumerate(lines):
            for match in re.finditer(r"\d", line):
                wrong = line[: match.start()] + str((int(match[0]) + 1) % 10) + line[match.end() :]
                with pytest.raises(ValueError, match="other digits"):
                    problem.verify([*lines[:number], wrong, *lines[number + 1 :]])


def test_a_wrong_layer_or_way_in_a_graph_is_found() -> None:
    for problem, sample in drawn(FAMILIES["graphs"], 3, 12):
        lines = sample.messages[-1]["reasoning_content"].split("\n")
        layers = [number for number, line in enumerate(lines) if re.match(r"\d+ steps?: ", line)]
        label, _, names = lines[layers[-1]].partition(": ")
        with pytest.raises(ValueError, match="should be"):
            problem.verify([*lines[: layers[-1]], f"{label}: {names}, Q9"])
        with pytest.raises(ValueError, match="no such way"):
            problem.verify([f"way: {problem.start}-{problem.start}"])  # type: ignore[attr-defined]


def test_a_trace_that_misses_the_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    (problem, _), *_ = drawn(FAMILIES["sums"], 1, 1)
    right = problem.answer
    monkeypatch.setattr(type(problem), "answer", property(lambda _: right + 1))
    with pytest.raises(AssertionError, match="does not end in"):
        problem.write(Dice("x"), Style())


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _solve_remainders(question: str) -> int:
    modulus = _numbers(re.findall(r"[Mm]odulo (\d+)|from 0 to (\d+)", question)[0][0] or "0")[0]
    modulus = modulus or _numbers(question)[1] + 1
    start = int(re.findall(r"(?:Start with|begin at|Take|begin with|stands at) (\d+)", question)[0])
    for verb, amount in re.findall(r"([Aa]dd|[Mm]ultiply by) (\d+)", question):
        start = start + int(amount) if verb.lower() == "add" else start * int(amount)
    return start % modulus


def _solve_dates(question: str) -> int:
    dates = [
        datetime.datetime.strptime(item, "%d %B %Y")
        for item in re.findall(r"\d+ [A-Z][a-z]+ \d{4}", question)
    ]
    if len(dates) == 2:
        return (dates[1] - dates[0]).days
    return (dates[0] + datetime.timedelta(days=int(re.findall(r"(\d+) days", question)[0]))).day


def _solve_chains(question: str) -> int:
    values: dict[str, int] = {}
    left = re.findall(r"\b([a-z]) = ([a-z\d]+(?: [-+*] [a-z\d]+)?)", question)
    while left:
        name, expression = left.pop(0)
        try:
            values[name] = eval(expression, {}, values)
        except NameError:
            left.append((name, expression))
    asked = re.findall(
        r"(?:is|has|[Ff]ind|[Cc]ompute|[Ww]ork out|value of) ([a-z])(?:[.?]| if|, given)", question
    )[-1]
    return values[asked]


def _solve_equation(question: str) -> int:
    sides = re.findall(r"[\dx][\dx +()*-]* = [\dx][\dx +()*-]*", question)[0].split(" = ")
    left, right = (sympy.sympify(re.sub(r"(\d)([x(])", r"\1*\2", side.strip())) for side in sides)
    (solution,) = sympy.solve(left - right)
    return int(solution)


def _solve_booleans(question: str) -> int:
    bits = dict(re.findall(r"\b([p-z]) = ([01])", question))
    text = re.sub(
        r"\b[p-z] = [01]|true \(1\) or false \(0\)|\(1 means true, 0 means false\)|0 as false", "", question
    )
    expression = max(
        re.findall(r"(?:\b(?:not|and|or|[p-z])\b|[() ])+", text), key=lambda item: len(item.split())
    ).strip()
    return int(eval(expression, {}, {name: int(bit) for name, bit in bits.items()}))


def _solve_counting(question: str) -> int:
    listed = max(re.findall(r"[a-z]+(?:, [a-z]+)+", question), key=len).split(", ")
    asked = re.findall(
        r"times (?:is )?([a-z]+) is in|of these are ([a-z]+):|does ([a-z]+) occur"
        r"|do you see ([a-z]+)\?|Look for ([a-z]+) among",
        question,
    )[0]
    return listed.count("".join(asked))


def _solve_ordering(question: str) -> int:
    ranks = ["second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
    rank, end = re.findall(rf"({'|'.join(ranks)}) (smallest|largest)", question)[0]
    return sorted(_numbers(question), reverse=end == "largest")[ranks.index(rank) + 1]


def _solve_units(question: str) -> int:
    factors = {
        ("hours", "minutes"): 60, ("minutes", "seconds"): 60, ("days", "hours"): 24, ("weeks", "days"): 7,
        ("years", "months"): 12, ("metres", "centimetres"): 100, ("kilometres", "metres"): 1000,
        ("kilograms", "grams"): 1000, ("litres", "millilitres"): 1000, ("feet", "inches"): 12, ("yards", "feet"): 3,
        ("pounds", "ounces"): 16, ("gallons", "pints"): 8, ("dozens", "pieces"): 12, ("dollars", "cents"): 100,
    }  # fmt: skip
    total = 0
    for sign, often, whole, large, rest, small in re.findall(
        r"(minus )?(?:(\d+) times \()?(\d+) ([a-z]+) (\d+) ([a-z]+)", question
    ):
        value = int(often or 1) * (int(whole) * factors[large, small] + int(rest))
        total += -value if sign else value
    return total


SOLVERS = {
    "sums": lambda question: sum(_numbers(question)),
    "columns": lambda question: int(eval(re.findall(r"\d+ [-+] \d+", question)[0])),
    "products": lambda question: _numbers(question)[0] * _numbers(question)[1],
    "remainders": _solve_remainders,
    "chains": _solve_chains,
    "equations": _solve_equation,
    "booleans": _solve_booleans,
    "counting": _solve_counting,
    "ordering": _solve_ordering,
    "dates": _solve_dates,
    "units": _solve_units,
}
"""Answers found from the words of a question alone."""


@pytest.mark.parametrize("name", SOLVERS)
def test_the_answer_follows_from_the_words_of_the_question(name: str) -> None:
    for level in (1, 3, 5):
        for _, sample in drawn(FAMILIES[name], level, 40):
            question = sample.messages[0]["content"]
            assert SOLVERS[name](question) == int(sample.grader["answer"]), question


def test_math_verify_reads_the_answers_alike() -> None:
    for family in REASONING:
        for problem, sample in drawn(family, 3, 3):
            assert verify(parse(str(problem.answer)), parse(sample.messages[-1]["content"]))


@pytest.mark.parametrize("family", REASONING, ids=lambda family: family.name)
def test_higher_levels_and_fuller_traces_are_longer(family: Family) -> None:
    def mean_length(level: int, trace: str) -> float:
        dice = Dice("length", family.name, level)
        texts = ["\n".join(family.draw(level, dice).trace(trace)) for _ in range(60)]  # type: ignore[attr-defined]
        return sum(map(len, texts)) / len(texts)

    for level in (1, 4):
        assert mean_length(level, "short") <= mean_length(level, "long") < mean_length(level, "checked")
    assert mean_length(1, "short") < mean_length(4, "short") < mean_length(family.max_level or 12, "short")


def test_some_easy_traces_are_short() -> None:
    """For a small model: a few dozen characters of one-line steps."""
    for name in ("sums", "chains", "remainders"):
        lengths = [
            len(sample.messages[-1]["reasoning_content"]) for _, sample in drawn(FAMILIES[name], 1, 60)
        ][::6]
        assert 30 < min(lengths) <= max(lengths) < 100
