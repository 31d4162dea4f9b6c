from typing import Any

import pytest

from evals.ruler.scoring import found, score, score_table


def sample(
    task: str, length: int, answers: list[str], depths: list[float], output: str | list[str]
) -> dict[str, Any]:
    doc = {"task": task, "length": length, "answers": answers, "depths": depths}
    return {"doc": doc, "filtered_resps": [output]}


def test_answers_are_found_in_any_case_anywhere() -> None:
    assert found("The ANSWER is abcDEF.", ["abcdef", "The answer", "missing", "."]) == [
        True,
        True,
        False,
        True,
    ]
    assert found("a\x00b\tc", ["a\nb", "b\nc", "ab"]) == [True, True, False]


@pytest.mark.parametrize(
    ("task", "output", "expected"),
    [
        ("vt", "AAAAA bbbbb", 2 / 3),
        ("vt", "", 0),
        ("qa_1", "bbbbb", 1),
        ("qa_1", "none", 0),
        ("cwe", "AAAAABBBBBCCCCC", 1),
    ],
)
def test_all_answers_count_but_in_questions_any(task: str, output: str, expected: float) -> None:
    assert score(task, output, ["aaaaa", "bbbbb", "ccccc"]) == pytest.approx(expected)


def test_the_table() -> None:
    rows = score_table(
        [
            sample("niah_single_1", 1024, ["1"], [0.5], "1"),
            sample("niah_single_1", 512, ["1"], [0.1], "1"),
            sample("niah_single_1", 512, ["2"], [0.19], "1"),
            sample("niah_single_1", 512, ["2"], [1.0], "2"),
            sample("niah_multivalue", 512, ["1", "2", "3", "4"], [0.0, 0.1, 0.3, 0.2], "1 3"),
            sample("qa_1", 512, ["1", "2"], [0.4], ["1", "9"]),
            sample("cwe", 1024, ["one", "two"], [], "one"),
        ]
    )
    assert [tuple(row.values()) for row in rows] == [
        ("niah_single_1", 512, None, pytest.approx(200 / 3), 3),
        ("niah_single_1", 512, "0-20%", 50, 2),
        ("niah_single_1", 512, "80-100%", 100, 1),
        ("niah_single_1", 1024, None, 100, 1),
        ("niah_single_1", 1024, "40-60%", 100, 1),
        ("niah_multivalue", 512, None, 50, 1),
        ("niah_multivalue", 512, "0-20%", 50, 2),
        ("niah_multivalue", 512, "20-40%", 50, 2),
        ("qa_1", 512, None, 50, 2),
        ("qa_1", 512, "40-60%", 50, 2),
        ("cwe", 1024, None, 50, 1),
        ("mean", 512, None, pytest.approx((200 / 3 + 50 + 50) / 3), 6),
        ("mean", 1024, None, 75, 2),
    ]
    assert set(rows[0]) == {"task", "length", "depth", "score", "n"}


def test_one_task_has_no_mean_and_buckets_may_be_finer() -> None:
    rows = score_table([sample("vt", 512, ["A", "B"], [0.29, 0.3], "A")], buckets=10)
    assert [(row["task"], row["depth"], row["score"]) for row in rows] == [
        ("vt", None, 50),
        ("vt", "20-30%", 100),
        ("vt", "30-40%", 0),
    ]


def test_nothing_gives_an_empty_table() -> None:
    assert score_table([]) == []
