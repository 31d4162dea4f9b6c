import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from model.errors import ArtifactError, UsageError
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageResult
from stages.data.prepare.config import PrepareConfig
from stages.data.show.config import ShowConfig
from stages.data.show.inspection import histogram
from stages.data.show.rendering import Vocabulary
from stages.data.stage import PREPARE, SHOW
from tests.stages.common.data.helpers import story, write_jsonl


def _show(path: Path, *, colour: bool = False, **settings: Any) -> tuple[StageResult, str]:
    """The result and what is printed, without or with terminal codes."""
    reporter = QuietReporter()
    config = ShowConfig(path=path, **settings)
    result = run_stage(SHOW, config, out=None, reporter=reporter, command=["nano2"]).result
    stream = io.StringIO()
    console = Console(
        file=stream, width=200, force_terminal=colour, color_system="256" if colour else None, highlight=False
    )
    for renderable in reporter.outputs:
        console.print(renderable)
    return result, stream.getvalue()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: Path) -> Path:
    root = tmp_path_factory.mktemp("show")
    first = write_jsonl(root / "first.jsonl", [story(number, 12) for number in range(20)])
    second = write_jsonl(root / "second.jsonl", [story(number, 300) for number in range(50, 54)])
    config = PrepareConfig(
        data=[f"{first}:3", str(second)], tokenizer=tokenizer_directory, seq_len=128, workers=1
    )
    run_stage(PREPARE, config, out=root / "out", reporter=QuietReporter(), command=["nano2"])
    return root / "out"


def test_tokens_documents_and_padding_are_visible(dataset: Path) -> None:
    result, printed = _show(dataset, rows=50)
    assert "first 0: 128 tokens" in printed
    assert "<s>|" in printed
    assert "|</s>|" in printed
    assert "-- document 1 --" in printed
    assert "[padding:" in printed
    for row in result.data["rows"]:
        joined = "".join(row["tokens"])
        assert len(row["input_ids"]) == len(row["in_loss"]) == 128
        assert row["padding"] == sum(number < 0 for number in row["document_ids"])
        assert row["source"] == "validation" or "Story" in joined or row["source"] == "second"
    assert {row["source"] for row in result.data["rows"]} == {"first", "second", "validation"}


def test_what_is_masked_from_the_loss(dataset: Path) -> None:
    result, _ = _show(dataset, rows=50)
    for row in result.data["rows"]:
        for place, in_loss in enumerate(row["in_loss"]):
            document = row["document_ids"][place]
            follows = place > 0 and row["document_ids"][place - 1] == document and document >= 0
            assert in_loss == follows


def test_colours_mark_tokens_control_tokens_and_what_is_masked(dataset: Path) -> None:
    _, printed = _show(dataset, rows=1, source="first", colour=True)
    assert "|" not in printed.split("lengths of")[0]
    assert "\x1b[1;2;30;43m<s>" in printed  # bold, dim, black on yellow
    assert "\x1b[48;5;240m" in printed
    assert "\x1b[48;5;237m" in printed


def test_sources_phases_and_lengths(dataset: Path) -> None:
    result, printed = _show(dataset)
    rows = {row["source"]: row for row in result.rows}
    assert (rows["first"]["phase_1"], rows["second"]["phase_3"]) == (0.75, 0.25)
    assert "phase_1" not in rows["validation"]
    assert result.metrics["rows"] == rows["first"]["rows"] + rows["second"]["rows"]
    assert 0.5 < float(result.metrics["fill"]) <= 1
    assert sum(item["documents"] for item in result.data["lengths"]) >= 24
    assert "#" in printed


def test_text_with_a_tokenizer(tmp_path: Path, tokenizer_directory: Path) -> None:
    texts = ["the river </s> é", story(1, 2000), "third"]
    path = write_jsonl(tmp_path / "a.jsonl", texts, field="body")
    result, printed = _show(path, tokenizer=tokenizer_directory, text_field="body")
    assert len(result.data["rows"]) == 2
    assert result.metrics["documents_measured"] == 3
    assert "".join(result.data["rows"][0]["tokens"][1:-1]) == "the river </s> \\xc3\\xa9"
    assert result.data["rows"][0]["input_ids"].count(2) == 1
    assert "more tokens]" in printed


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"source": "third"}, UsageError, "no source 'third'"),
        ({"tokenizer": Path("x")}, UsageError, "has its own tokenizer"),
    ],
)
def test_refusals(dataset: Path, settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _show(dataset, **settings)


def test_refusals_of_text(tmp_path: Path, tokenizer_directory: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match="needs a tokenizer"):
        _show(tmp_path / "a.txt")
    with pytest.raises(ArtifactError, match="no such file"):
        _show(tmp_path / "gone.txt")
    with pytest.raises(ArtifactError, match="no such file"):
        _show(tmp_path / "missing", tokenizer=tokenizer_directory)


def test_histogram_bins_are_powers_of_two_and_cover_all() -> None:
    import numpy as np

    bins = histogram(np.array([1, 2, 3, 4, 5, 8, 9, 100]))
    assert bins[:4] == [(1, 1, 1), (2, 2, 1), (3, 4, 2), (5, 8, 2)]
    assert bins[-1] == (65, 128, 1)
    assert sum(count for *_, count in bins) == 8
    assert histogram(np.array([], dtype=np.int64)) == []


def test_spelling_of_bytes_and_unknown_ids() -> None:
    vocabulary = Vocabulary([b"", b"a\xc3", b"b"], {0: "<unk>"})
    assert [vocabulary.spell(index) for index in (0, 1, 2, 7)] == ["<unk>", "a\\xc3", "b", "<7>"]


def test_control_characters_never_reach_the_terminal(tmp_path: Path, tokenizer_directory: Path) -> None:
    (tmp_path / "a.txt").write_text("x\x1b[31mred\x07\ttab\r\nnext")
    result, printed = _show(tmp_path / "a.txt", tokenizer=tokenizer_directory)
    assert "\x1b" not in printed
    assert "\x07" not in printed
    for escape in ("\\x1b", "\\x07", "\\t", "\\r", "\\n"):
        assert escape in printed
    assert "\x1b" in "".join(result.data["rows"][0]["tokens"])
