"""Plain progress: throttled lines with the stage's fields, and an estimate of the time to go."""

import io
import time

import pytest
from rich.console import Console

from nano2cli import progress
from nano2cli.formatting import format_figure, format_label
from nano2cli.progress import PlainBar, ProgressState, TerminalReporter


class Clock:
    """Stands in for time.monotonic, so that the tests need not wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_lines_are_few_and_carry_the_fields(clock: Clock) -> None:
    lines: list[str] = []
    bar = PlainBar(ProgressState("training", 2000, "step"), lines.append)
    for _ in range(1000):
        clock.now += 0.1
        bar.update(1, loss=3.21456, tok_per_s=12345.6, mfu=0.314, memory_bytes=3 * 2**30)
    assert 9 <= len(lines) <= 11
    assert (
        lines[0]
        == "training: 21/2,000 steps  loss 3.215  tok/s 12,346  MFU 31.4%  memory 3.0 GiB  ETA 3m 18s"
    )


def test_the_estimate_ignores_the_jump_of_a_resumed_run(clock: Clock) -> None:
    state = ProgressState("training", 1000, "step")
    clock.now += 5  # loading
    state.advance(900, {})
    assert state.remaining() is None
    for _ in range(10):
        clock.now += 2
        state.advance(1, {})
    assert state.remaining() == pytest.approx(180)


def test_unknown_totals_and_short_work(clock: Clock) -> None:
    state = ProgressState("reading", None, "document")
    state.advance(1234, {})
    assert state.facts() == "1,234 documents"
    assert state.remaining() is None
    finished = ProgressState("x", 1, "file")
    finished.advance(1, {})
    assert finished.facts() == "1/1 file"
    clock.now += 1


def _reporter(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> tuple[TerminalReporter, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, markup=False, highlight=False, width=100)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    return TerminalReporter(None), stream


def test_work_that_is_over_soon_prints_nothing(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter, stream = _reporter(monkeypatch, terminal=False)
    with reporter, reporter.progress("quick", 10) as bar:
        clock.now += 1
        bar.update(10)
    assert stream.getvalue() == ""
    with reporter, reporter.progress("slow", 10, "file") as bar:
        clock.now += 5
        bar.update(10)
        clock.now += 5
    assert stream.getvalue().splitlines()[-1] == "slow: 10/10 files  in 10 s"


def test_messages_are_whole_lines_without_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter, stream = _reporter(monkeypatch, terminal=False)
    reporter.log("file[0] " + "x" * 200)
    reporter.warn("[bold]fell back")
    assert stream.getvalue() == "file[0] " + "x" * 200 + "\nwarning: [bold]fell back\n"


@pytest.mark.parametrize("error", [None, ValueError])
def test_nested_live_bars_end_with_the_block(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception] | None
) -> None:
    reporter, stream = _reporter(monkeypatch, terminal=True)
    try:
        with reporter, reporter.progress("outer", 2) as outer:
            with reporter.progress("inner", None) as inner:
                inner.update(1, loss=1.0)
            outer.update(1)
            if error:
                raise error
    except ValueError:
        pass
    assert stream.getvalue().rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in stream.getvalue()
    assert reporter._live is None


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("loss", 2.345678, "2.346"), ("tok_per_s", 1234567.8, "1,234,568"), ("steps", 20000, "20,000"),
        ("mfu", 0.5, "50.0%"), ("peak_bytes", 2**31, "2.0 GiB"), ("gemm_share", 0.123, "12.3%"), ("seconds",
        90.0, "1m 30s"), ("ok", True, "yes"), ("loss", float("nan"), "nan"), ("name", "x", "x"), ("tiny",
        1.5e-7, "1.5e-07"), ("none", None, "-"), ("list", [1, 2.5], "1, 2.5"), ("map", {"a": 1}, "a=1"),
    ],
)  # fmt: skip
def test_a_name_says_the_unit(name: str, value: object, shown: str) -> None:
    assert format_figure(name, value) == shown


def test_labels() -> None:
    assert [format_label(name) for name in ("tok_per_s", "peak_bytes", "mfu", "bits_per_byte")] == [
        "tok/s", "peak", "MFU", "bits per byte",
    ]  # fmt: skip
