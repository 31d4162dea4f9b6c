"""The text that comes with the project: real, small, and licensed so that it can."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from stages.data.prepare.config import PrepareConfig
from stages.data.tokenizer.config import TokenizerConfig

ROOT = Path(__file__).parents[3]
CORPUS = ROOT / "recipes/cpu/data"
FILES = ("books", "code", "math", "validation")
LICENSES = {"public domain (US)", "PSF-2.0", "BSD-3-Clause", "MIT", "Apache-2.0", "CC-BY-4.0"}


def _rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in gzip.open(CORPUS / f"{name}.jsonl.gz", "rt", encoding="utf-8")]


@pytest.mark.parametrize("name", FILES)
def test_every_row_names_source_and_licence_and_the_notice_covers_it(name: str) -> None:
    notice = " ".join((CORPUS / "NOTICE.md").read_text().split())
    rows = _rows(name)
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert row["license"] in LICENSES
        assert row["text"].strip()
        assert row["source"] in notice
        assert row["license"] in notice
        if name == "books" or row["source"].startswith("mlschmitt"):
            assert row["title"].removesuffix(" (beginning)") in notice
    for (source, _), count in Counter((row["source"], row["license"]) for row in rows).items():
        assert f"| {name} | {count} | {source} |" in notice


def test_no_row_of_validation_is_in_the_training_text() -> None:
    training = {row["id"] for name in FILES[:3] for row in _rows(name)}
    assert not training & {row["id"] for row in _rows("validation")}


def test_size_and_reproducible_compression() -> None:
    sizes = [(CORPUS / f"{name}.jsonl.gz").stat().st_size for name in FILES]
    assert 2_000_000 < sum(sizes) < 3_000_000
    for name in FILES:
        header = (CORPUS / f"{name}.jsonl.gz").read_bytes()[:10]
        assert header[3] == 0  # no file name
        assert header[4:8] == b"\0\0\0\0"  # no time


def test_recipes_are_valid_and_name_the_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = {
        name: yaml.safe_load((ROOT / f"recipes/cpu/{name}.yaml").read_text())
        for name in ("tokenizer", "prepare")
    }
    assert {name: recipe.pop("stage") for name, recipe in settings.items()} == {
        "tokenizer": "data tokenizer",
        "prepare": "data prepare",
    }
    tokenizer = TokenizerConfig(**settings["tokenizer"])
    prepare = PrepareConfig(**settings["prepare"])
    assert all(item.path.is_file() for item in (*tokenizer.data, *prepare.data))
    assert (tokenizer.vocab_size, prepare.seq_len) == (4096, 512)
    for name in ("code", "math"):
        shares = [phase[name] for phase in prepare.phases]
        assert shares == sorted(shares)
        assert shares[-1] > shares[0]
