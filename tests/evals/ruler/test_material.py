"""Damaged data is named, whatever the damage."""

import gzip
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evals.ruler import material
from model.errors import ArtifactError

READERS = {
    "ruler_essays.jsonl.gz": material.essay_sentences,
    "ruler_words.jsonl.gz": material.words,
    "ruler_squad.jsonl.gz": material.questions,
}


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, reader in READERS.items():
        shutil.copy(material.DATA / name, tmp_path)
        reader.cache_clear()
    monkeypatch.setattr(material, "DATA", tmp_path)
    yield tmp_path
    for reader in READERS.values():
        reader.cache_clear()


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1000],
        lambda data: data[:2000] + b"\x00" * 100 + data[2100:],
        lambda data: b"",
        lambda data: b'{"text": "no gzip"}\n',
        lambda data: gzip.compress(b'{"id": 1}\n'),
        lambda data: gzip.compress(gzip.decompress(data) + b"[]\n"),
        None,
    ],
    ids=["cut", "overwritten", "empty", "no-gzip", "other-keys", "no-object", "missing"],
)
def test_damaged_data_is_refused(name: str, damage: Callable[[bytes], bytes] | None, copy: Path) -> None:
    file = copy / name
    data = file.read_bytes()
    file.unlink()
    if damage:
        file.write_bytes(damage(data))
    with pytest.raises(ArtifactError) as caught:
        READERS[name]()
    assert caught.value.where == str(file)
    assert "restore" in caught.value.remedy
