import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.errors import ArtifactError
from stages.common.data.packed_dataset import PackedDataset
from stages.common.data.packing import Packer, Row
from stages.common.data.row_writer import RowWriter

SEQ_LEN, VOCABULARY = 16, 50


def _rows(count: int) -> list[Row]:
    packer = Packer(SEQ_LEN, 0)
    documents = [np.full(5 + number % 7, 1 + number % 40, np.int32) for number in range(3 * count)]
    rows = [row for document in documents for row in packer.add(document)] + list(packer.flush())
    return rows[:count]


def _write(directory: Path, rows: list[Row], **changes: Any) -> Path:
    with RowWriter(directory / "sources/a", SEQ_LEN, masked=changes.get("masked", False)) as writer:
        for row in rows:
            writer.write(row)
    counts = {"rows": len(rows), "tokens": 1, "documents": 1, "cut_documents": 0, "bytes": 1}
    left_out = ("read", "empty", "exact_duplicates", "near_duplicates", "held_out", "like_validation")
    description = {
        "schema_version": 1,
        "seq_len": SEQ_LEN,
        "vocab_size": VOCABULARY,
        "tokenizer": "sha256:0",
        "sources": {"a": {**counts, **dict.fromkeys(left_out, 0)}},
        "phases": [{"a": 1.0}] * 3,
        "validation": None,
    }
    (directory / "dataset.json").write_text(json.dumps(description | changes))
    return directory


def test_rows_come_back_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.common.data.row_writer._BATCH_TOKENS", 7 * SEQ_LEN)  # several record batches
    rows = _rows(40)
    dataset = PackedDataset.open(_write(tmp_path, rows))
    assert len(dataset.sources["a"]) == 40
    for number in (0, 6, 7, 39, 13):
        read = dataset.sources["a"][number]
        assert (read.input_ids == rows[number].input_ids).all()
        assert (read.document_ids == rows[number].document_ids).all()
    for number in (-1, 40):
        with pytest.raises(IndexError):
            dataset.sources["a"][number]
    assert dataset.validation is None
    assert dataset.seq_len == SEQ_LEN


def test_loss_masks_come_back_with_the_tokens_they_were_packed_with(tmp_path: Path) -> None:
    packer = Packer(SEQ_LEN, 0)
    documents = [np.arange(1, 4 + number % 9, dtype=np.int32) for number in range(30)]
    rows = [row for ids in documents for row in packer.add(ids, (ids % 2).astype(np.int8))] + list(
        packer.flush()
    )
    dataset = PackedDataset.open(_write(tmp_path, rows, masked=True))
    for number, row in enumerate(rows):
        read = dataset.sources["a"][number]
        assert read.loss_mask is not None
        assert (read.loss_mask == row.loss_mask).all()
        assert (read.loss_mask == (read.input_ids % 2)).all()


@pytest.mark.parametrize("mask", [[0, 2, 0], [0, -1, 1], [0, 1, 1, 1]])
def test_a_loss_mask_that_no_packer_wrote_is_found(tmp_path: Path, mask: list[int]) -> None:
    row = _row([1, 2, 3], [0, 0, 0])
    padded = np.array(mask + [0] * (SEQ_LEN - len(mask)), np.int8)
    broken = Row(row.input_ids, row.document_ids, padded)
    with pytest.raises(ArtifactError, match="row 0 has a loss mask that is no mask"):
        PackedDataset.open(_write(tmp_path, [broken], masked=True))


def test_a_dataset_that_claims_masks_must_have_them(tmp_path: Path) -> None:
    directory = _write(tmp_path, _rows(3))
    _edit(masked=True)(directory)
    with pytest.raises(ArtifactError, match="no column 'loss_mask'"):
        PackedDataset.open(directory)


def test_datasets_reads_the_rows_and_equal_rows_are_equal_files(tmp_path: Path) -> None:
    import datasets

    from model.artifact.hashing import content_hash

    first, second = (
        _write(tmp_path / name, _rows(30)) for name in ("x", "y") if not (tmp_path / name).mkdir()
    )
    loaded = datasets.load_from_disk(str(first / "sources/a"))
    assert loaded.column_names == ["input_ids", "document_ids"]
    assert len(loaded[3]["input_ids"]) == SEQ_LEN
    assert content_hash(first) == content_hash(second)
    assert [path.name for path in (first / "sources").iterdir()] == ["a"]


def test_nothing_is_written_when_the_block_fails(tmp_path: Path) -> None:
    def write_and_fail() -> None:
        with RowWriter(tmp_path / "rows", SEQ_LEN) as writer:
            writer.write(_rows(1)[0])
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_and_fail()
    assert not list(tmp_path.iterdir())


def _row(ids: list[int], documents: list[int]) -> Row:
    fill = SEQ_LEN - len(ids)
    return Row(np.array(ids + [0] * fill, np.int32), np.array(documents + [-1] * fill, np.int32))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (_row([1, VOCABULARY, 2], [0, 0, 0]), f"row 5 has a token id outside 0..{VOCABULARY - 1}"),
        (_row([1, -3, 2], [0, 0, 0]), "row 5 has a token id outside"),
        (_row([1, 2, 3], [0, 2, 2]), "row 5 has document ids out of order"),
        (_row([1, 2, 3], [1, 1, 1]), "row 5 has document ids out of order"),
        (_row([1, 2, 3], [0, 1, 0]), "row 5 has document ids out of order"),
        (_row([1, 2, 3, 4], [0, -1, -1, 0]), "row 5 has document ids out of order"),
        (_row([1, 2, 3], [0, 0, -2]), "row 5 has document ids out of order"),
        (_row([], []), "row 5 has document ids out of order"),
    ],
)
def test_rows_that_no_packer_wrote_are_found_at_once_or_on_reading(
    tmp_path: Path, row: Row, message: str
) -> None:
    directory = _write(tmp_path, [*_rows(5), row, *_rows(2)])
    with pytest.raises(ArtifactError, match=message):
        PackedDataset.open(directory)
    lazy = PackedDataset.open(directory, check_rows=False)
    lazy.sources["a"][4]
    with pytest.raises(ArtifactError, match=message):
        lazy.sources["a"][5]


def _truncate(directory: Path) -> None:
    [arrow] = (directory / "sources/a").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:-200])


def _drop_arrow(directory: Path) -> None:
    next((directory / "sources/a").glob("*.arrow")).unlink()


def _edit(**changes: Any) -> Any:
    def edit(directory: Path) -> None:
        path = directory / "dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


NO_VALIDATION_THERE = {"rows": 1, "tokens": 1, "documents": 1, "cut_documents": 0, "bytes": 1}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda directory: (directory / "dataset.json").unlink(), "is no packed dataset"),
        (lambda directory: (directory / "dataset.json").write_text("{"), "no valid dataset description"),
        (lambda directory: (directory / "dataset.json").write_bytes(b"\xff"), "no valid dataset description"),
        (_edit(schema_version=2), "schema_version"),
        (_edit(surprise=1), "surprise"),
        (_edit(seq_len=0), "seq_len"),
        (_edit(seq_len=8), "is fixed_size_list<item: int32>\\[16\\], not int32 lists of 8"),
        (_edit(validation=NO_VALIDATION_THERE), "validation"),
        (_truncate, "sources/a"),
        (_drop_arrow, "sources/a"),
    ],
)
def test_damage_is_an_artifact_error(tmp_path: Path, damage: Any, message: str) -> None:
    directory = _write(tmp_path, _rows(8))
    damage(directory)
    with pytest.raises(ArtifactError, match=message) as caught:
        PackedDataset.open(directory)
    assert caught.value.remedy


def test_a_file_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").write_text("{}")
    with pytest.raises(ArtifactError, match="is no packed dataset"):
        PackedDataset.open(tmp_path / "chats.jsonl")


def test_a_row_count_that_disagrees(tmp_path: Path) -> None:
    directory = _write(tmp_path, _rows(8))
    path = directory / "dataset.json"
    path.write_text(path.read_text().replace('"rows": 8', '"rows": 9'))
    with pytest.raises(ArtifactError, match=r"holds 8 rows where dataset\.json says 9"):
        PackedDataset.open(directory)


def test_another_dataset_in_the_rows_place(tmp_path: Path) -> None:
    from datasets import Dataset

    directory = _write(tmp_path, _rows(2))
    shutil.rmtree(directory / "sources/a")
    Dataset.from_dict({"text": ["x", "y"]}).save_to_disk(directory / "sources/a")
    with pytest.raises(ArtifactError, match="has no column 'input_ids'"):
        PackedDataset.open(directory)
