"""Known values: another one would change every sampled result."""

from statistics import fmean

import pytest

from model.seeds import chance, seed56, seed64


@pytest.mark.parametrize(
    ("key", "seed"),
    [
        ("5 2", 16833914773747132664),
        (
            '[7,1,"a615eeaee21de5179de080de8c3052c8da901138406ba71c38c032845f7d54f4"]',
            5667029941795205314,
        ),
        ("3 episode 4 1", 1712436234100754817),
    ],
)
def test_64_bits(key: str, seed: int) -> None:
    assert seed64(key) == seed


@pytest.mark.parametrize(("key", "seed"), [("9|order|2", 47496187320290710), ("9|2|x|1", 39535895860499900)])
def test_56_bits(key: str, seed: int) -> None:
    assert seed56(key) == seed


def test_chances_are_spread_evenly() -> None:
    chances = [chance(f"7|split|{number}") for number in range(4000)]
    assert 0 <= min(chances) < 0.01
    assert 0.99 < max(chances) <= 1
    assert fmean(chances) == pytest.approx(0.5, abs=0.02)
    assert len(set(chances)) == len(chances)
