import pytest

from stages.data.synth.reasoning.arithmetic import check_trace


@pytest.mark.parametrize(
    ("lines", "claims"),
    [
        (["3 + 4 = 7", "7 - 10 = -3", "-3 * -2 = 6"], 3),
        (["tens: 4 + 7 + 1 = 12; write 2, carry 1"], 1),
        (["a = 3", "b = a + 4 = 3 + 4 = 7", "b - a = 4"], 3),
        (["x = 0 + 5 = 5", "x = 5 - 7 = -2", "abs(x) = 2"], 3),
        (["(7 + 5) mod 10 = 2; 12 mod 5 = 2"], 2),
        (["1 / 3 + 2 / 3 = 1", "25 / 5 = 5"], 2),
        (["not (1 and 0) = 1", "0 or 1 = 1"], 2),
        (["reverse([3, 1]) = [1, 3]", "sum(add([1, 2], 3)) = 9", "min(4, 2, 9) = 2", "len([]) = 0"], 4),
        (["3 < 5; 7 > 2"], 2),
        (["Now a check.", "so it is 7", "apple"], 0),
    ],
)
def test_true_claims_are_counted(lines: list[str], claims: int) -> None:
    assert check_trace(lines) == claims


@pytest.mark.parametrize(
    "line",
    [
        "3 + 4 = 8",
        "3 + 4 = 7 = 6 + 2",
        "tens: 4 + 7 = 12; write 2",
        "12 mod 5 = 3",
        "1 / 3 = 0",
        "not 1 = 1",
        "reverse([3, 1]) = [3, 1]",
        "5 < 3",
        "4 > 4",
        "c = d + 1 = 5",  # d has no value
        "the sum = 7",  # no arithmetic
        "5 / 0 = 5",
        "__import__('os') = 1",
        "(1).__class__ = 1",
        "[1 for a in [2]] = [1]",
        "exec(1) = 1",
    ],
)
def test_a_false_or_unreadable_claim_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="="):
        check_trace(["1 + 1 = 2", line if "=" in line else f"{line}; 1 = 1"])


def test_a_known_name_cannot_be_changed() -> None:
    assert check_trace(["3x + 4 = 19", "x = 15 / 3 = 5"], {"x": 5}) == 2
    with pytest.raises(ValueError, match="not equal"):
        check_trace(["x = 18 / 3 = 6"], {"x": 5})
