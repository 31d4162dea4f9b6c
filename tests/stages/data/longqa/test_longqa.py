"""The stage as a whole, with the rules: what is written, what is counted, what is refused."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from model.artifact.provenance import read_provenance
from model.artifact.summary import summarize
from model.errors import ArtifactError, UsageError
from stages.common.data.packed_dataset import PackedDataset
from stages.common.data.text_tokenizer import TextTokenizer, token_bytes
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.data.longqa.config import LongqaConfig
from stages.data.prepare.config import PrepareConfig
from stages.data.stage import PREPARE
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer
from tests.stages.common.data.helpers import write_jsonl
from tests.stages.data.longqa.conftest import Longqa, chronicle
from tests.stages.data.longqa.oracle import look_up

ROOT = Path(__file__).parents[4]


@pytest.fixture
def texts() -> list[str]:
    """Five long documents, a short one in front and one in between."""
    long = [chronicle(number, 12 + 3 * number) for number in range(5)]
    return ["A short note.\n", *long[:2], chronicle(9, 1), *long[2:]]


def test_a_row_is_the_document_unchanged_and_its_pairs(longqa: Longqa, texts: list[str]) -> None:
    result, rows = longqa.run(write_jsonl(longqa.root / "tales.jsonl.gz", texts), share=0.2, chunk_tokens=128)
    tokenizer = TextTokenizer.open(longqa.tokenizer)
    assert [row["place"] for row in rows] == [f"tales.jsonl.gz line {line}" for line in (2, 3, 5, 6, 7)]
    for row, text in zip(rows, [*texts[1:3], *texts[4:]], strict=True):
        assert row["text"][: row["document_characters"]] == text
        pairs = "".join(f"\n\nQ: {pair['question']}\nA: {pair['answer']}" for pair in row["pairs"])
        assert row["text"] == f"{text}{pairs}\n"
        assert row["tokens"] == len(tokenizer.encode_documents([row["text"]])[0])
        assert row["document_tokens"] == len(tokenizer.encode_documents([text])[0])
        assert row["chunks"] == pytest.approx(row["document_tokens"] / 128, abs=0.6)
        assert len(row["pairs"]) == round(0.2 * row["chunks"])
        assert len({pair["chunk"] for pair in row["pairs"]}) == len(row["pairs"])
        assert (row["source"], row["piece"], row["pieces"], row["writer"]) == ("tales", 1, 1, "rules")
        for pair in row["pairs"]:
            assert look_up(text, pair["question"], pair["kind"]) == pair["answer"]
    metrics = result.metrics
    assert (metrics["documents"], metrics["documents_read"], metrics["short"]) == (5, 7, 2)
    assert metrics["pairs"] == metrics["sampled_chunks"] == sum(len(row["pairs"]) for row in rows) > 10
    assert metrics["chunks"] == sum(row["chunks"] for row in rows)
    assert metrics["tokens"] == sum(row["tokens"] for row in rows)
    assert metrics["pair_tokens"] == sum(row["tokens"] - row["document_tokens"] for row in rows)
    assert sum(row["pairs"] for row in result.rows) == metrics["pairs"]


def test_short_documents_are_kept_where_they_stood_if_asked(longqa: Longqa, texts: list[str]) -> None:
    result, rows = longqa.run(write_jsonl(longqa.root / "t.jsonl", texts), keep_short=True)
    assert len(rows) == len(texts)
    for row, text in zip(rows, texts, strict=True):
        assert row["text"].startswith(text)
    assert [(row["text"], row["pairs"], row["writer"], row["chunks"]) for row in (rows[0], rows[3])] == [
        (text, [], "none", 0) for text in (texts[0], texts[3])
    ]
    assert (result.metrics["documents"], result.metrics["short"], result.metrics["without_pairs"]) == (
        7,
        2,
        0,
    )


def test_long_documents_are_cut_into_pieces_that_fit_with_their_pairs(
    longqa: Longqa, texts: list[str]
) -> None:
    result, rows = longqa.run(
        write_jsonl(longqa.root / "t.jsonl", texts),
        document_tokens=500,
        max_tokens=640,
        share=0.5,
        keep_short=True,
    )
    by_place: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_place.setdefault(row["place"], []).append(row)
    for text, pieces in zip(texts, by_place.values(), strict=True):
        assert [(piece["piece"], piece["pieces"]) for piece in pieces] == [
            (number, len(pieces)) for number in range(1, len(pieces) + 1)
        ]
        assert "".join(piece["text"][: piece["document_characters"]] for piece in pieces) == text
    assert max(row["document_tokens"] for row in rows) <= 500
    assert 500 < max(row["tokens"] for row in rows) <= 640
    assert result.metrics["documents_cut"] == sum(len(pieces) > 1 for pieces in by_place.values()) == 5
    lost = result.metrics["pairs_without_room"]
    assert isinstance(lost, int)
    assert 0 < lost == result.metrics["sampled_chunks"] - result.metrics["pairs"]
    assert any(f"for {lost} pairs" in note for note in longqa.reporter.warnings)


def test_prepare_packs_what_was_written_without_a_cut(longqa: Longqa, texts: list[str]) -> None:
    _, rows = longqa.run(
        write_jsonl(longqa.root / "t.jsonl", texts), document_tokens=500, max_tokens=700, share=0.3
    )
    config = PrepareConfig(
        data=[str(longqa.root / "out")],
        tokenizer=longqa.tokenizer,
        seq_len=700,
        workers=1,
        validation_fraction=0,
    )
    run_stage(PREPARE, config, out=longqa.root / "packed", reporter=QuietReporter(), command=["nano2"])
    dataset = PackedDataset.open(longqa.root / "packed")
    counts = dataset.description.sources["out"]
    assert (counts.read, counts.documents, counts.cut_documents) == (len(rows), len(rows), 0)
    assert counts.tokens == sum(row["tokens"] for row in rows)
    spelled = token_bytes(longqa.tokenizer)
    packed = []
    for number in range(counts.rows):
        row = dataset.sources["out"][number]
        for document in range(row.document_ids.max() + 1):
            ids = row.input_ids[row.document_ids == document]
            packed.append(b"".join(spelled[index] for index in ids[1:-1]).decode())
    assert sorted(packed) == sorted(row["text"] for row in rows)


def test_the_same_settings_give_the_same_bytes(longqa: Longqa, texts: list[str]) -> None:
    data = write_jsonl(longqa.root / "t.jsonl", texts)
    contents = []
    for name, settings in {
        "one": {},
        "two": {"workers": 2},
        "gz": {"compress": True},
        "gz2": {"compress": True},
        "seed": {"seed": 1},
    }.items():
        longqa.run(data, name=name, **settings)
        (file,) = (longqa.root / name).glob("documents.jsonl*")
        contents.append(file.read_bytes())
    one, two, gz, gz2, seed = contents
    assert one == two == gzip.decompress(gz)
    assert gz == gz2
    assert one != seed


def test_a_document_has_the_same_pairs_whatever_stands_beside_it(longqa: Longqa, texts: list[str]) -> None:
    _, all_rows = longqa.run(write_jsonl(longqa.root / "a.jsonl", texts), name="a")
    _, (alone,) = longqa.run(write_jsonl(longqa.root / "b.jsonl", [texts[4]]), name="b")
    assert alone["text"] == next(row["text"] for row in all_rows if row["place"] == "a.jsonl line 5")


def test_the_artifact_says_what_made_it(longqa: Longqa, texts: list[str]) -> None:
    data = write_jsonl(longqa.root / "t.jsonl", texts)
    result, _ = longqa.run(data, seed=3)
    provenance = read_provenance(longqa.root / "out")
    assert provenance is not None
    assert (provenance.kind, provenance.stage, provenance.seed) == ("dataset", "data longqa", 3)
    assert provenance.metrics == result.metrics
    summary = summarize(longqa.root / "out")
    assert (summary.kind, summary.file_count) == ("dataset", 1)
    longqa.run(data, seed=3, workers=2)  # up to date
    with pytest.raises(UsageError, match="seed was 3 there"):
        longqa.run(data, seed=4)


def test_sources_are_read_as_prepare_reads_them(longqa: Longqa, texts: list[str]) -> None:
    folder = longqa.root / "corpus"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text(texts[1], encoding="utf-8")
    write_jsonl(folder / "deep" / "b.jsonl.gz", texts[2:3])
    _, rows = longqa.run(folder)
    assert [(row["source"], row["place"]) for row in rows] == [
        ("corpus", "a.txt line 1"),
        ("corpus", "deep/b.jsonl.gz line 1"),
    ]
    write_jsonl(longqa.root / "c.jsonl", texts[4:5], field="body")
    _, (row,) = longqa.run(longqa.root / "c.jsonl", name="c", text_field="body")
    assert row["text"].startswith(texts[4])
    _, rows = longqa.run(f"{folder}/*.txt", longqa.root / "corpus/deep", name="d")
    assert [row["source"] for row in rows] == ["corpus", "deep"]


def _short(root: Path) -> Path:
    return write_jsonl(root / "t.jsonl", [chronicle(1, 1), "x", chronicle(2, 2)])


def _repetitive(root: Path) -> Path:
    return write_jsonl(root / "t.jsonl", ["the same again and again\n" * 300])


REFUSED: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str, str]] = {
    "all short": (_short, {"min_tokens": 2000}, r"none of 3 documents .* \(2000\); the longest has 4\d\d", "--min-tokens"),
    "kept short": (_short, {"min_tokens": 2000, "keep_short": True}, "none of 3 documents", "--min-tokens"),
    "empty file": (lambda root: write_jsonl(root / "t.jsonl", []), {}, "holds no documents", "give files"),
    "empty texts": (lambda root: write_jsonl(root / "t.jsonl", ["", ""]), {}, "none of 2 documents", "--min-tokens"),
    "all too long": (
        lambda root: write_jsonl(root / "t.jsonl", [chronicle(1, 20)]),
        {"max_tokens": 300},
        "all 1 long documents have more than max_tokens",
        "--document-tokens",
    ),
    "no room": (
        lambda root: write_jsonl(root / "t.jsonl", [chronicle(1, 2)]),
        {"max_tokens": 410},
        "no pair fits within max_tokens",
        "--document-tokens",
    ),
    "nothing to ask": (_repetitive, {}, "nothing in it that occurs once in the document", "--writer"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_give_nothing_is_refused_with_a_remedy(longqa: Longqa, name: str) -> None:
    make, settings, message, remedy = REFUSED[name]
    with pytest.raises(ArtifactError, match=message) as raised:
        longqa.run(make(longqa.root), **settings)
    assert remedy in raised.value.remedy
    assert raised.value.exit_code == 3
    assert [path.name for path in longqa.root.iterdir()] == ["t.jsonl"]


def test_too_long_documents_are_left_out_and_counted(longqa: Longqa) -> None:
    data = write_jsonl(longqa.root / "t.jsonl", [chronicle(1, 8), chronicle(2, 40)])
    result, rows = longqa.run(data, max_tokens=2500)
    assert (len(rows), result.metrics["too_long"]) == (1, 1)
    assert any("longer than max_tokens: 1 document;" in note for note in longqa.reporter.warnings)


def test_a_document_without_a_pair_is_written_and_counted(longqa: Longqa) -> None:
    data = write_jsonl(longqa.root / "t.jsonl", [chronicle(1, 8), "the same again and again\n" * 300])
    result, rows = longqa.run(data)
    assert result.metrics["without_pairs"] == 1
    assert (rows[1]["text"], rows[1]["writer"]) == ("the same again and again\n" * 300, "none")
    assert result.metrics["chunks_without_pair"] == result.metrics["sampled_chunks"] - len(rows[0]["pairs"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": \n', "line 2"),
        (b'{"text": 3}\n', "not a string"),
        (b'{"body": "a"}\n', "no field 'text'"),
        (b'{"text": "\xff"}\n', "not UTF-8"),
    ],
)
def test_broken_text_names_its_line(longqa: Longqa, content: bytes, message: str) -> None:
    (longqa.root / "t.jsonl").write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        longqa.run(longqa.root / "t.jsonl")


def test_a_truncated_gzip_and_a_missing_tokenizer_are_errors(longqa: Longqa, texts: list[str]) -> None:
    data = write_jsonl(longqa.root / "t.jsonl.gz", texts)
    data.write_bytes(data.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match="cut short"):
        longqa.run(data)
    (longqa.root / "empty").mkdir()
    with pytest.raises(ArtifactError, match=r"no tokenizer\.json there"):
        longqa.run(write_jsonl(longqa.root / "u.jsonl", texts), tokenizer=longqa.root / "empty")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"min_tokens": 600, "document_tokens": 500},
            r"min_tokens \(600\) is more than document_tokens \(500\)",
        ),
        ({"document_tokens": 800, "max_tokens": 700}, "document_tokens .* is more than max_tokens"),
        ({"chunk_tokens": 300}, "chunk_tokens .* is more than min_tokens"),
        ({"max_tokens": 200}, "min_tokens .* is more than max_tokens"),
        ({"share": 0}, "greater than 0"),
        ({"share": 1.1}, "less than or equal to 1"),
        ({"writer": "gpt"}, "rules"),
        ({"writer": "model"}, "the writer model needs model"),
        ({"model": "m"}, "model is given, and the writer is rules"),
        ({"writer": "endpoint", "endpoint_model": "m"}, "the writer endpoint needs base_url"),
        ({"writer": "endpoint", "base_url": "http://x/v1"}, "the writer endpoint needs endpoint_model"),
        ({"writer": "endpoint", "endpoint_model": "m", "base_url": "localhost:8000"}, "begins with http"),
        ({"base_url": "http://x/v1"}, "base_url is given, and the writer is rules"),
        ({"api_key_env": "KEY"}, "api_key_env is given"),
        ({"timeout": 0}, "greater than 0"),
        ({"retries": -1}, "greater than or equal to 0"),
        ({"max_failed_share": 2}, "less than or equal to 1"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    longqa: Longqa, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        longqa.config("t.jsonl", **settings)


def test_the_recipe_gives_documents_that_fit_its_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    recipe = yaml.safe_load((ROOT / "recipes/cpu/longqa.yaml").read_text())
    assert recipe.pop("stage") == "data longqa"
    config = LongqaConfig.model_validate(recipe)
    assert (config.max_tokens, config.writer) == (2048, "rules")
    rows = gzip.decompress((ROOT / "recipes/cpu/data/books.jsonl.gz").read_bytes()).decode().split("\n")
    books = [json.loads(row)["text"] for row in rows[5:7]]
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    save_tokenizer(train_tokenizer(iter(books), 4096), tokenizer)
    del recipe["data"], recipe["tokenizer"]
    result, written = Longqa(tmp_path, tokenizer).run(write_jsonl(tmp_path / "books.jsonl", books), **recipe)
    assert result.metrics["pairs_without_room"] <= 0.05 * result.metrics["sampled_chunks"]
    assert max(row["tokens"] for row in written) <= 2048
    assert min(len(row["pairs"]) for row in written) >= 3
