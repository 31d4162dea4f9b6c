"""Formats of a question and its answer: one function each, from a row to a line of chat jsonl.

Where a row has a worked solution, it becomes the reasoning, and the answer is one sentence with the result in \\boxed{},
which is where the `math` grader looks first.
"""

import re
from collections.abc import Mapping
from typing import Any

from stages.data.convert.rows import field, text, texts

Row = Mapping[str, Any]
Line = dict[str, Any]

_POINT_ZERO = re.compile(r"(?<=\d)\.0(?!\d)")
_LETTERS = "ABCDEFGHIJ"


def gsm8k(row: Row) -> Line:
    """Grade-school problems: question, solution, final_answer."""
    return _worked(row, text(row, "question"), text(row, "solution"), text(row, "final_answer"))


def math(row: Row) -> Line:
    """Competition mathematics (MATH): problem, solution, final_answer, level, type."""
    about = {key: row[key] for key in ("level", "type") if key in row}
    return _worked(row, text(row, "problem"), text(row, "solution"), text(row, "final_answer"), about)


def svamp(row: Row) -> Line:
    """Word problems of one step or two: question, equation, answer. The equation is the reasoning."""
    number = field(row, "answer", float)
    answer = _POINT_ZERO.sub("", str(number))
    equation = _POINT_ZERO.sub("", text(row, "equation")).replace("( ", "(").replace(" )", ")")
    if equation.startswith("(") and equation.endswith(")"):
        equation = equation[1:-1]
    return _worked(row, text(row, "question"), f"{equation} = {answer}", answer)


def aqua(row: Row) -> Line:
    """Algebra with five options: question, options, rationale, answer (a letter)."""
    options = texts(row, "options")
    answer = text(row, "answer")
    if answer not in _LETTERS[: len(options)]:
        raise ValueError(f"answer: is {answer!r}, none of the {len(options)} options")
    question = "\n".join([text(row, "question"), *options])
    return _worked(row, question, text(row, "rationale"), answer)


def commonsenseqa(row: Row) -> Line:
    """Questions with choices: question, choices, answer (an index). No reasoning."""
    choices = texts(row, "choices")
    index = field(row, "answer", int)
    if not 0 <= index < len(choices) <= len(_LETTERS):
        raise ValueError(f"answer: is {index}, no index of {len(choices)} choices")
    listed = [f"{letter}) {choice}" for letter, choice in zip(_LETTERS, choices, strict=False)]
    question = "\n".join([text(row, "question"), *listed])
    answer = _LETTERS[index]
    return _asked(row, question, f"The answer is $\\boxed{{{answer}}}$, {choices[index]}.") | {
        "grader": {"name": "math", "answer": answer}
    }


def mbpp(row: Row) -> Line:
    """Short Python functions: text, code, test_list, test_setup_code. Judged by running the tests."""
    tests = texts(row, "test_list")
    setup = field(row, "test_setup_code", str).replace("\r\n", "\n").strip()
    code = text(row, "code").replace("\r\n", "\n")
    question = "\n".join([text(row, "text"), "", "The code should pass these tests:", *tests])
    # What the source sets up before its tests may use the answer's names, so it belongs to each test.
    judged = [f"{setup}\n{test}" if setup else test for test in tests]
    return _asked(row, question, f"```python\n{code}\n```") | {"grader": {"name": "code", "tests": judged}}


def self_instruct(row: Row) -> Line:
    """Instructions: instruction, input (may be empty), output."""
    given = field(row, "input", str).strip()
    question = "\n\n".join([text(row, "instruction"), *([given] if given else [])])
    return _asked(row, question, text(row, "output"))


def dolly(row: Row) -> Line:
    """Instructions: instruction, output."""
    return _asked(row, text(row, "instruction"), text(row, "output"))


def _worked(row: Row, question: str, solution: str, answer: str, about: Line | None = None) -> Line:
    line = _asked(row, question, f"The answer is $\\boxed{{{answer}}}$.")
    line["messages"][-1]["reasoning_content"] = solution
    line["grader"] = {"name": "math", "answer": answer}
    return line | ({"metadata": about} if about else {})


def _asked(row: Row, question: str, answer: str) -> Line:
    line: Line = {
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    }
    for key in ("id", "task_id"):
        if key in row:
            line["id"] = str(row[key])
    return line
