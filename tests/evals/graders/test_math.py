"""Final answers: found, read and compared; and answers made to hang the grader. tests/peers has the data sets' own."""

import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from evals.graders import math_worker
from evals.graders.answers import final_answer
from evals.graders.grade import Grade, grade_text, validate_spec
from model.errors import ArtifactError


def score(gold: Any, answer: str, **more: Any) -> float:
    return grade_text({"name": "math", "answer": gold, **more}, answer).score


@pytest.mark.parametrize(
    ("text", "answer", "boxed"),
    [
        (r"so \boxed{5}, no, \boxed{ 6 }.", "6", True),
        (r"\boxed{\frac{1}{2}} or 7", r"\frac{1}{2}", True),
        (r"\fbox {3}", "3", True),
        (r"\boxed{\boxed{7}}", "7", True),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}", True),
        (r"\boxed{}", "", True),
        (r"First \boxed{5}, then \boxed{\frac{6}{7", "5", True),
        (r"The answer is 5, that is \boxed{\frac{10}{2}", "", False),
        ("The answer is 3/4, not 5.\nYes.", "3/4", False),
        ("Answer: x = 5", "x = 5", False),
        ("**Answer:** 12 apples", "12", False),
        ("Final answer is $\\frac{1}{2}$.", r"\frac{1}{2}", False),
        ("2 + 2 = 4\n#### 1,234", "1,234", False),
        ("He has 3 cats and -4 dogs", "-4", False),
        ("They are 5-3 apart", "3", False),
        ("It costs $5.00", "$5.00", False),
        ("Half, or 50%, of it", "50%", False),
        ("Either $a=1$ or \\(a=2\\) holds.", "a=2", False),
        ("So\n\\[\n  x = 6\n\\]\n", "x = 6", False),
        ("There were 7.\nThat's all.", "7", False),
        ("-3, -1, 8", "-3, -1, 8", False),
        ("x**2 + 1", "x**2 + 1", False),
        ("", "", False),
    ],
)
def test_the_final_answer_is_found(text: str, answer: str, boxed: bool) -> None:
    found = final_answer(text)
    assert (found.text, found.boxed) == (answer, boxed)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("42", ["42", "42.0", "so 42.", r"\boxed{42}", "x = 42", "$42$", "**42**", "42 apples"], ["43", "-42", "4 2"]),
        ("42", ["40 + 2 = 42", "The answer is $40+2=42$, not 43."], ["42 = 40 + 3"]),
        (42, [r"\boxed{42}", "84/2", r"\frac{84}{2}", "4.2e1", r"4.2 \times 10^{1}"], ["42x", "42 million", "0.42"]),
        ("3/4", ["0.75", "75%", r"\boxed{\dfrac{6}{8}}", r"\frac34", "$3/4$"], ["0.7", "4/3", "3.4", "34"]),
        (0.1, ["0.1", "1/10", ".1"], ["0.10001", "0.01"]),
        ("1/3", ["0.333333", "0.33333333"], ["0.333", "0.3334"]),
        ("0.333333", ["1/3"], ["0.3333331"]),
        ("0.000012", ["0.000012", "1.2e-5"], ["0.0000121", "0"]),
        ("50%", ["50%", "0.5", "1/2", "50", "50 percent"], ["5%", "2"]),
        ("50", ["50%"], ["0.5"]),
        ("1,234", ["1234", "1,234", r"\boxed{1{,}234}", "$1,234.00"], ["1.234", "1", "234"]),
        ("2 1/2", ["2.5", "5/2", r"2\frac{1}{2}"], ["21/2", "2"]),
        ("12 cm", ["12", r"\boxed{12\text{ cm}}", "12 centimetres"], ["1.2 cm"]),
        (r"90^\circ", ["90", "90°", "90 degrees"], ["9"]),
        ("x = 5", ["5", r"\boxed{x=5}", "y = 5"], ["x = 6"]),
        ("-1, 1", ["1, -1", r"\boxed{\{-1, 1\}}", "x = -1 or x = 1", "They are -1 and 1."], ["1", "-1, 1, 1", "-1, 2"]),
        ("10*sqrt(3)", [r"\boxed{10\sqrt{3}}", "sqrt(300)", "17.3205080757"], ["10*3", "17.32"]),
        ("x**2 - 1", [r"\boxed{(x-1)(x+1)}", "x^2-1", "-1 + x**2"], ["x^2 + 1", "y^2 - 1", "x^{21}"]),
        ("x + 42", ["x + 40 + 2"], ["42", "x + 40"]),
        ("x**10", ["x^{10}", "x^10"], ["x^1 0", "x*10"]),
        (r"\frac{\pi}{2}", ["pi/2", r"\boxed{0.5\pi}"], [r"\frac{2}{\pi}", "1.57"]),
        (r"\frac{x}{23}", [r"\frac{x}{23}", "x/23"], [r"\frac{x2}{3}"]),
        ("[1, 2)", [r"\boxed{[1,2)}"], [r"\boxed{[1,2]}", r"\boxed{(1,2)}"]),
        ("(1, 2)", [r"\boxed{(1,2)}"], [r"\boxed{(2,1)}"]),
        ("y = 2x + 1", [r"\boxed{2x+1}", "y=1+2x"], ["y = 2x"]),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", [r"\boxed{\begin{pmatrix}1\\ 2\end{pmatrix}}"], ["1, 2"]),
        ("True", ["True", "true.", r"\boxed{\text{True}}", "The claim is True."], ["False", "Untrue", "True or False"]),
        ("7:35 PM", ["7:35 PM", r"\boxed{7:35 \text{ pm}}", "It is 7:35 PM"], ["8:35 PM", "7:35 AM", "35"]),
        ("27434a2", [r"\boxed{27434a2}"], [r"\boxed{54868a}", "27434"]),
        ("c", ["c", r"\boxed{C}", "The answer is c."], ["d", "1"]),
    ],
)  # fmt: skip
def test_values(gold: Any, right: list[str], wrong: list[str]) -> None:
    assert [answer for answer in right if not score(gold, answer)] == []
    assert [answer for answer in wrong if score(gold, answer)] == []


@pytest.mark.parametrize(
    "answer",
    [
        *("40 + 2", "6*7", r"6 \times 7", "50 - 8", "42^1", "2 * 3 * 7", r"\frac{6*7}{1}", "sqrt(1764)"),
        *(r"\sqrt{1764}", r"\binom{42}{1}", r"\log_2 2^{42}", r"\lfloor 42.5 \rfloor"),
    ],
)
def test_where_a_number_is_wanted_what_gives_it_is_no_answer(answer: str) -> None:
    assert score("42", rf"\boxed{{{answer}}}") == 0.0


def test_the_order_of_a_list() -> None:
    assert score("57, 1, -980", "-980, 1, 57") == 1.0
    assert score("57, 1, -980", "-980, 1, 57", ordered=True) == 0.0
    assert score("57, 1, -980", r"\boxed{57, 1, -980}", ordered=True) == 1.0
    assert score("1, 1, 2", "1, 2, 2") == 0.0


def test_form_and_correctness_are_told_apart() -> None:
    spec = {"name": "math", "answer": "1/2"}
    assert grade_text(spec, "It is 0.5") == Grade(1.0, {"format": 0.0, "correct": 1.0}, "right: 0.5")
    wrong = Grade(0.0, {"format": 1.0, "correct": 0.0}, "wrong: 5, expected 1/2")
    assert grade_text(spec, r"\boxed{5}") == wrong
    assert grade_text(spec, "").detail == "no answer, expected 1/2"
    assert grade_text(spec, r"\boxed{1/2}", thinking=True).score == 0.0
    assert grade_text(spec, r"\boxed{1/2}</think>It is 3.", thinking=True).score == 0.0


HOSTILE = [
    r"\boxed{9**9**9**9}",
    r"\boxed{10000000!}",
    r"\boxed{\sum_{k=1}^{10000000} k^k}",
    r"\boxed{" + "{" * 3000 + "}" * 3000 + "}",
    r"\boxed{" + "(" * 400 + "x" + ")" * 400 + "}",
    r"\boxed{" + r"\frac{1}{" * 100 + "x" + "}" * 101,
    r"\boxed{" + "9" * 100_000 + "}",
    r"\boxed{" + "x+" * 50_000 + "}",
    "9" * 100_000,
    "1," * 50_000,
    r"\boxed{" * 20_000,
    "$" * 100_000,
    "answer is " * 10_000,
    r"\boxed{1e999999999}",
    " " * 50_000 + "x" + " " * 50_000,
    r"\boxed{__import__('os').system('touch /tmp/nano2-was-here')}",
]


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda answer: answer[:24].strip() or "spaces")
def test_hostile_answers_come_back_soon_and_wrong(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_worker, "SECONDS", 1.5)
    start = time.perf_counter()
    assert score("x + 5", answer) == score("5", answer) == 0.0
    assert time.perf_counter() - start < 20


def test_after_one_that_hung_the_next_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_worker, "SECONDS", 1.5)
    start = time.perf_counter()
    verdict = grade_text({"name": "math", "answer": "x + 1"}, r"\boxed{10000000!}")
    assert verdict == Grade(
        0.0,
        {"format": 1.0, "correct": 0.0},
        "not decided, not done within 1.5 seconds: 10000000!, expected x + 1",
    )
    assert time.perf_counter() - start < 60
    assert score("x**2", "x x") == 1.0


def test_threads_and_forked_processes_may_ask() -> None:
    answers = [f"{n}*x + {n}" for n in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda n: score(f"{n}*(x+1)", answers[n]), range(12))) == [1.0] * 12
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_forked, range(2)) == [1.0, 1.0]
    assert score("2*(x+1)", "2x + 2") == 1.0


def _forked(n: int) -> float:
    assert not math_worker._idle
    return score("x*(x+1)", "x^2 + x")


def test_workers_end_with_the_process() -> None:
    code = (
        "from evals.graders.grade import grade_text\nfrom evals.graders import math_worker\n"
        "grade_text({'name': 'math', 'answer': 'x+1'}, 'y+1')\nprint(math_worker._idle[0].process.pid)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert subprocess.run(["kill", "-0", done.stdout.strip()], stderr=subprocess.DEVNULL).returncode != 0


@pytest.mark.parametrize(
    "spec",
    [
        *({"answer": answer} for answer in ("", " $ ", None, True, [1], float("nan"))),
        *({}, {"answer": 1, "gold": 1}, {"answer": 1, "ordered": 1}),
    ],
)
def test_malformed_specifications_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError):
        validate_spec({"name": "math", **spec})
