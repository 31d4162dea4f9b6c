"""Quoted figures and tables: filled in from result files, and refused where a marker says something impossible."""

from pathlib import Path

import pytest

from model.errors import ArtifactError
from stages.common import quotes
from stages.common.quotes import format_cell, main, quoting_pages, render
from stages.common.results import write_result

ROWS = [
    {"table": "train", "side": "ours|mine", "tok_per_s": 1234.5, "peak_bytes": 3 * 2**20, "best": True},
    {"table": "train", "side": "theirs", "tok_per_s": None, "peak_bytes": 5 * 2**20, "best": False},
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in quotes.RESULT_FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
    metrics = {"ratio": 1.98767, "gemm_share": 0.345, "tokens": 4096000}
    write_result(tmp_path / "docs/bench/cpu.json", command=["x"], metrics=metrics, rows=ROWS)
    return tmp_path


def filled(root: Path, text: str) -> str:
    return render(text, Path("page.md"), root)


def test_a_value_is_filled_in_whatever_stood_there(root: Path) -> None:
    page = "It is <!-- value: cpu.json ratio -->9.9<!-- /value --> times as fast.\n"
    assert filled(root, page) == "It is <!-- value: cpu.json ratio -->1.99<!-- /value --> times as fast.\n"


def test_a_value_may_say_its_format(root: Path) -> None:
    assert "-->34.5%<!--" in filled(root, "<!-- value: cpu.json gemm_share .1% --><!-- /value -->")
    assert "-->1.9877<!--" in filled(root, "<!-- value: cpu.json ratio .4f --><!-- /value -->")


def test_a_table_is_filled_in(root: Path) -> None:
    page = "<!-- bench: cpu.json train -->\nold\n<!-- /bench -->\n"
    assert filled(root, page) == (
        "<!-- bench: cpu.json train -->\n"
        "| side | tok/s | peak | best |\n"
        "| --- | ---: | ---: | --- |\n"
        "| ours\\|mine | 1,234 | 3.0 MiB | yes |\n"
        "| theirs | - | 5.0 MiB | no |\n"
        "<!-- /bench -->\n"
    )


def test_columns_and_metrics_can_be_chosen(root: Path) -> None:
    page = "<!-- bench: cpu.json train: peak_bytes, side --><!-- /bench -->"
    assert "| peak | side |\n" in filled(root, page)
    page = "<!-- bench: cpu.json metrics: tokens, gemm_share --><!-- /bench -->"
    assert "| `tokens` | 4,096,000 |\n| `gemm_share` | 34% |\n" in filled(root, page)
    assert filled(root, "<!-- bench: cpu.json metrics --><!-- /bench -->").count("\n") == 6


def test_filling_in_again_changes_nothing(root: Path) -> None:
    page = (
        "a <!-- value: cpu.json ratio --><!-- /value --> b\n<!-- bench: cpu.json train --><!-- /bench -->\n"
    )
    once = filled(root, page)
    assert filled(root, once) == once
    assert once.startswith("a ")


def test_markers_in_code_are_left_alone(root: Path) -> None:
    page = "`<!-- value: FILE METRIC -->`\n\n```\n<!-- bench: FILE TABLE -->\n```\n"
    assert filled(root, page) == page
    real = "<!-- value: cpu.json ratio -->1.99<!-- /value -->"
    assert filled(root, page + real) == page + real


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("x\n<!-- value: cpu.json nothing --><!-- /value -->", r"page\.md:2.*no metric 'nothing'"),
        ("<!-- value: gpu.json ratio --><!-- /value -->", r"there is no gpu\.json"),
        ("<!-- value: cpu.json --><!-- /value -->", "is not FILE METRIC"),
        ("<!-- value: cpu.json ratio .2z --><!-- /value -->", "no format"),
        ("<!-- bench: cpu.json nothing --><!-- /bench -->", "no table 'nothing'"),
        ("<!-- bench: cpu.json train: speed --><!-- /bench -->", "no column 'speed'"),
        ("<!-- bench: cpu.json metrics: speed --><!-- /bench -->", "no metric 'speed'"),
        ("<!-- bench: cpu.json --><!-- /bench -->", "is not FILE TABLE"),
        ("<!-- value: cpu.json ratio -->1.99", "no partner"),
        ("1.99<!-- /value -->", "no partner"),
        ("<!--value: cpu.json ratio-->1.99<!-- /value -->", "no partner"),
        (
            "<!-- bench: cpu.json train --><!-- value: cpu.json ratio --><!-- /value --><!-- /bench -->",
            "inside",
        ),
    ],
)
def test_a_marker_that_cannot_be_filled_is_named(root: Path, page: str, complaint: str) -> None:
    with pytest.raises(ArtifactError, match=complaint):
        filled(root, page)


def test_a_name_in_both_folders_is_refused(root: Path) -> None:
    write_result(root / "docs/results/cpu.json", command=["x"], metrics={"ratio": 1.0}, rows=[])
    with pytest.raises(ArtifactError, match="in both"):
        filled(root, "<!-- value: cpu.json ratio --><!-- /value -->")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("tokens", 12345, "12,345"),
        ("ratio", 12345.6, "12,346"),
        ("ratio", 0.012345, "0.0123"),
        ("ratio", 2.0, "2"),
        ("gemm_share", 0.5, "50%"),
        ("peak_bytes", 2**30, "1.0 GiB"),
        ("best", True, "yes"),
        ("note", "a|b", "a\\|b"),
        ("note", None, "-"),
    ],
)
def test_cells(name: str, value: object, shown: str) -> None:
    assert format_cell(name, value) == shown  # type: ignore[arg-type]


def test_the_command_fills_in_and_checks(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quotes, "ROOT", root)
    monkeypatch.setattr(quotes.quoting_pages, "__defaults__", (root,))
    monkeypatch.setattr(quotes.render, "__defaults__", (root,))
    page = root / "docs/bench.md"
    page.write_text("<!-- value: cpu.json ratio --><!-- /value -->\n")
    assert quoting_pages() == [page]
    assert main(["--check"]) == 3
    assert "disagrees" in capsys.readouterr().out
    assert "1.99" not in page.read_text()
    assert main([]) == 0
    assert "1.99" in page.read_text()
    assert main(["--check"]) == 0
    page.write_text("<!-- value: cpu.json gone --><!-- /value -->\n")
    assert main([]) == 3
    assert "no metric 'gone'" in capsys.readouterr().err
