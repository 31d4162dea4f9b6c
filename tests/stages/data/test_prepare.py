import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.artifact.hashing import content_hash
from model.errors import ArtifactError, UsageError
from stages.common.data.packed_dataset import PackedDataset, PackedRows
from stages.common.data.text_tokenizer import token_bytes
from stages.common.harness import run_stage
from stages.common.reporter import FieldValue, ProgressBar, QuietReporter
from stages.common.stage import StageResult
from stages.data.prepare.config import PrepareConfig
from stages.data.stage import PREPARE
from tests.stages.common.data.helpers import story, write_jsonl


class Preparation:
    """Runs the stage with a small tokenizer, in `root`."""

    def __init__(self, root: Path, tokenizer: Path) -> None:
        self.root = root
        self.tokenizer = tokenizer
        self.reporter = QuietReporter()

    def run(self, *data: Path | str, name: str = "out", **settings: Any) -> tuple[StageResult, PackedDataset]:
        settings = {"tokenizer": self.tokenizer, "seq_len": 64, "workers": 1} | settings
        config = PrepareConfig(data=[str(item) for item in data], **settings)
        out = self.root / name
        outcome = run_stage(PREPARE, config, out=out, reporter=self.reporter, command=["nano2"])
        return outcome.result, PackedDataset.open(out)


@pytest.fixture
def preparation(tmp_path: Path, tokenizer_directory: Path) -> Preparation:
    return Preparation(tmp_path, tokenizer_directory)


def _texts(rows: PackedRows, tokenizer: Path) -> list[str]:
    """The packed documents of a dataset in which none is cut."""
    spelled = token_bytes(tokenizer)
    texts = []
    for number in range(len(rows)):
        row = rows[number]
        for document in range(int(row.document_ids.max()) + 1):
            ids = row.input_ids[row.document_ids == document]
            assert (ids[0], ids[-1]) == (1, 2)
            texts.append(b"".join(spelled[index] for index in ids).decode())
    return texts


def test_what_is_packed_is_the_text(preparation: Preparation, tmp_path: Path) -> None:
    texts = [story(number, 20 + number % 30) for number in range(40)]
    result, dataset = preparation.run(write_jsonl(tmp_path / "s.jsonl.gz", texts), seq_len=512)
    validation = _texts(dataset.validation, preparation.tokenizer)
    train = _texts(dataset.sources["s"], preparation.tokenizer)
    assert sorted(validation + train) == sorted(texts)
    assert len(validation) == 1
    counts = dataset.description.sources["s"]
    assert (counts.read, counts.documents, counts.held_out, counts.cut_documents) == (40, 39, 1, 0)
    assert counts.bytes == sum(len(text.encode()) for text in train)
    ids = np.concatenate([dataset.sources["s"][row].document_ids for row in range(counts.rows)])
    assert counts.tokens == (ids >= 0).sum()
    assert result.metrics["fill"] == pytest.approx(counts.tokens / (counts.rows * 512))
    assert result.metrics["padding_tokens"] == counts.rows * 512 - counts.tokens


def test_a_long_document_is_cut_without_loss(preparation: Preparation, tmp_path: Path) -> None:
    text = story(1, 3000)
    (tmp_path / "long.txt").write_text(text)
    _, dataset = preparation.run(tmp_path / "long.txt", seq_len=32)
    rows = dataset.sources["long"]
    ids = np.concatenate(
        [rows[number].input_ids[rows[number].document_ids == 0] for number in range(len(rows))]
    )
    spelled = token_bytes(preparation.tokenizer)
    assert b"".join(spelled[index] for index in ids).decode() == text
    assert (ids == 1).sum() == (ids == 2).sum() == 1
    assert dataset.validation is None
    assert "no document was held out" in preparation.reporter.warnings[0]


def test_workers_do_not_change_the_result(preparation: Preparation, tmp_path: Path) -> None:
    texts = [story(number % 700, 40) for number in range(1500)]
    data = write_jsonl(tmp_path / "s.jsonl", texts)
    one, _ = preparation.run(data, name="one", workers=1)
    two, _ = preparation.run(data, name="two", workers=2)
    assert one.metrics == two.metrics
    assert content_hash(tmp_path / "one") == content_hash(tmp_path / "two")


def test_planted_duplicates_go_and_nothing_else(preparation: Preparation, tmp_path: Path) -> None:
    originals = [story(number) for number in range(60)]
    exact = [originals[3], originals[4].replace(" ", "\n") + "  "]
    near = [originals[5] + "and so on", originals[6].upper()]
    first = write_jsonl(tmp_path / "first.jsonl", originals[:50])
    second = write_jsonl(tmp_path / "second.jsonl", [*exact, "", *near, "  \n", *originals[50:]])
    _, dataset = preparation.run(first, second, validation_fraction=0)
    counts = dataset.description.sources
    assert counts["first"].documents == 50
    assert (counts["second"].read, counts["second"].documents, counts["second"].empty) == (16, 10, 2)
    assert (counts["second"].exact_duplicates, counts["second"].near_duplicates) == (2, 2)
    _, exact_only = preparation.run(first, second, name="exact", duplicates="exact", validation_fraction=0)
    assert exact_only.description.sources["second"].documents == 12
    _, all_kept = preparation.run(first, second, name="keep", duplicates="keep", validation_fraction=0)
    assert all_kept.description.sources["second"].documents == 14


def test_text_like_the_validation_set_is_not_trained_on(preparation: Preparation, tmp_path: Path) -> None:
    held_out = [story(number) for number in range(5)]
    train = write_jsonl(
        tmp_path / "t.jsonl", [held_out[0], held_out[1] + "the end", *(story(n) for n in range(9, 30))]
    )
    validation = write_jsonl(tmp_path / "v.jsonl", [*held_out, held_out[2]])
    result, dataset = preparation.run(train, validation=validation, seq_len=512)
    assert dataset.description.sources["t"].like_validation == 2
    assert dataset.description.sources["t"].documents == 21
    assert dataset.description.validation.documents == 5
    assert sorted(_texts(dataset.validation, preparation.tokenizer)) == sorted(held_out)
    assert result.metrics["like_validation"] == 2


def test_near_copies_of_held_out_documents_are_dropped_wherever_they_stand(
    preparation: Preparation, tmp_path: Path
) -> None:
    texts = [story(number) for number in range(100)]
    data = write_jsonl(tmp_path / "s.jsonl", [*(text + "before" for text in texts), *texts])
    _, dataset = preparation.run(data, validation_fraction=0.1, seq_len=512)
    counts = dataset.description.sources["s"]
    assert counts.held_out + counts.like_validation + counts.documents + counts.near_duplicates == 200
    stories = [
        {text.split(".")[0] for text in _texts(rows, preparation.tokenizer)}
        for rows in (dataset.sources["s"], dataset.validation)
    ]
    assert not stories[0] & stories[1]
    assert len(stories[0] | stories[1]) == 100


def test_held_out_documents_depend_on_the_seed_and_each_source_gives_its_share(
    preparation: Preparation, tmp_path: Path
) -> None:
    paths = [
        write_jsonl(tmp_path / f"s{part}.jsonl", [story(1000 * part + n, 30) for n in range(100)])
        for part in range(2)
    ]
    chosen = []
    for seed in (0, 0, 1):
        name = f"out{len(chosen)}"
        _, dataset = preparation.run(*paths, name=name, validation_fraction=0.1, seed=seed, seq_len=512)
        assert [counts.held_out for counts in dataset.description.sources.values()] == [10, 10]
        chosen.append(sorted(_texts(dataset.validation, preparation.tokenizer)))
    assert chosen[0] == chosen[1] != chosen[2]


def test_phases(preparation: Preparation, tmp_path: Path) -> None:
    paths = [write_jsonl(tmp_path / f"{name}.jsonl", [story(number) for number in span]) for name, span in
             (("a", range(20)), ("b", range(20, 40)))]  # fmt: skip
    _, dataset = preparation.run(f"{paths[0]}:3", paths[1], name="weights")
    assert dataset.phases == [{"a": 3.0, "b": 1.0}] * 3
    blends = [{"a": 1.0}, {"a": 1.0, "b": 2.0}, {"b": 1.0}]
    _, dataset = preparation.run(*paths, name="phases", phases=blends)
    assert dataset.phases == blends
    _, dataset = preparation.run(*paths, name="flags", phases=["a=1", "a=1,b=2", "b=1"])
    assert dataset.phases == blends
    for phases, message in (
        ([{"a": 1}, {"c": 1}, {"a": 1, "b": 1}], "phase 2: there is no source 'c'"),
        ([{"a": 1}, {"b": 0}, {"a": 1, "b": 1}], "phase 2: weight 0"),
        ([{"a": 1, "b": 1}], "1 blends given"),
        ([{"a": 1}] * 3, "no phase uses the source 'b'"),
    ):
        with pytest.raises(UsageError, match=message):
            preparation.run(*paths, name="bad", phases=phases)


def test_the_dataset_carries_its_tokenizer(preparation: Preparation, tmp_path: Path) -> None:
    preparation.run(write_jsonl(tmp_path / "s.jsonl", [story(1), story(2)]))
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (
        preparation.tokenizer / "tokenizer.json"
    ).read_bytes()
    assert (tmp_path / "out/chat_template.jinja").is_file()
    description = json.loads((tmp_path / "out/dataset.json").read_text())
    assert description["tokenizer"] == content_hash(preparation.tokenizer)
    assert description["vocab_size"] == 400


def test_a_corpus_in_every_format(preparation: Preparation, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset

    texts = [story(number) for number in range(20)]
    write_jsonl(tmp_path / "lines.jsonl.gz", texts[:5], field="body")
    pq.write_table(pa.table({"body": texts[5:10], "n": list(range(5))}), tmp_path / "table.parquet")
    Dataset.from_dict({"body": texts[10:15]}).save_to_disk(tmp_path / "saved")
    (tmp_path / "folder").mkdir()
    for number in range(15, 20):
        (tmp_path / f"folder/{number}.txt").write_text(texts[number])
    names = ("lines.jsonl.gz", "table.parquet", "saved", "folder")
    _, dataset = preparation.run(
        *(tmp_path / name for name in names), text_field="body", validation_fraction=0, seq_len=512
    )
    found = [text for rows in dataset.sources.values() for text in _texts(rows, preparation.tokenizer)]
    assert sorted(found) == sorted(texts)
    assert list(dataset.sources) == ["lines", "table", "saved", "folder"]


BAD_INPUT = [
    ("empty.jsonl", b"", "has no documents"),
    ("blank.txt", b" \n ", r"none of its 1 documents is left to train on \(1 empty\)"),
    ("latin.txt", b"caf\xe9\n", r"latin\.txt line 1: not UTF-8: byte 0xe9 at offset 3"),
    ("broken.jsonl", b'{"text": "a"}\n{"text": \n', r"broken\.jsonl line 2: not JSON"),
    ("field.jsonl", b'{"body": "a"}\n', r"field\.jsonl line 1: no field 'text'; it has: body"),
    ("number.jsonl", b'{"text": 3}\n', r"number\.jsonl line 1: field 'text' is int"),
    ("cut.jsonl.gz", b"\x1f\x8b\x08\x00\x00", r"cut\.jsonl\.gz: the gzip file is damaged or cut short"),
    ("fake.parquet", b"PAR1PAR1", r"fake\.parquet: cannot be read as parquet"),
    ("missing.txt", None, r"missing\.txt: no such file"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_INPUT, ids=[case[0] for case in BAD_INPUT])
def test_bad_input_leaves_nothing_behind(
    preparation: Preparation, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    good = write_jsonl(tmp_path / "good.jsonl", [story(1), story(2)])
    if content is not None:
        (tmp_path / name).write_bytes(content)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ArtifactError, match=message) as caught:
        preparation.run(good, tmp_path / name)
    assert caught.value.remedy
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_source_of_nothing_but_duplicates_is_refused(preparation: Preparation, tmp_path: Path) -> None:
    texts = [story(number) for number in range(5)]
    first, second = (write_jsonl(tmp_path / f"{name}.jsonl", texts) for name in "ab")
    with pytest.raises(ArtifactError, match=r"source b .*none of its 5 documents .*\(5 exact duplicate\)"):
        preparation.run(first, second, validation_fraction=0)
    with pytest.raises(ArtifactError, match=r"source a .*\(5 like validation\)"):
        preparation.run(first, validation=second)


def test_a_tokenizer_without_document_ends(preparation: Preparation, tmp_path: Path) -> None:
    bad = tmp_path / "tokenizer"
    shutil.copytree(preparation.tokenizer, bad)
    spec = (bad / "tokenizer.json").read_text().replace("</s>", "</end>")
    (bad / "tokenizer.json").write_text(spec)
    with pytest.raises(ArtifactError, match="has no </s> token"):
        preparation.run(write_jsonl(tmp_path / "a.jsonl", [story(1)]), tokenizer=bad)


def test_a_corpus_that_changes_while_it_is_read(
    preparation: Preparation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.data.prepare import run as module

    data = write_jsonl(tmp_path / "a.jsonl", [story(number) for number in range(9)])
    survey_corpus = module.survey_corpus

    def survey_then_grow(*arguments: Any, **settings: Any) -> Any:
        survey = survey_corpus(*arguments, **settings)
        write_jsonl(data, [story(number) for number in range(12)])
        return survey

    monkeypatch.setattr(module, "survey_corpus", survey_then_grow)
    with pytest.raises(ArtifactError, match="the text changed while it was read: 9 documents first"):
        preparation.run(data)
    assert not (tmp_path / "out").exists()


class MemoryReporter(QuietReporter):
    """Notes the largest anonymous memory (without mapped files) at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.peak_kib = 0

    @contextmanager
    def progress(self, title: str, total: int | None, unit: str = "") -> Iterator[ProgressBar]:
        yield self  # type: ignore[misc]

    def update(self, advance: int = 1, **fields: FieldValue) -> None:
        status = Path("/proc/self/status").read_text()
        self.peak_kib = max(self.peak_kib, int(status.split("RssAnon:")[1].split()[0]))


def print_peak_memory(corpus: str, tokenizer: str, out: str) -> None:
    """For a process of its own: prepares the corpus and prints its peak of anonymous memory in KiB."""
    preparation = Preparation(Path(out), Path(tokenizer))
    preparation.reporter = MemoryReporter()
    preparation.run(corpus, duplicates="exact", seq_len=2048)
    print(preparation.reporter.peak_kib)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_memory_does_not_grow_with_the_corpus(tokenizer_directory: Path, tmp_path: Path) -> None:
    block = "".join(story(number, 2000) for number in range(30))
    peaks = []
    for megabytes in (4, 20):
        (tmp_path / str(megabytes)).mkdir()
        data = write_jsonl(
            tmp_path / f"{megabytes}.jsonl",
            [f"{number} {block}" for number in range(megabytes * 10**6 // len(block))],
        )
        script = "import sys; from tests.stages.data.test_prepare import print_peak_memory as run; run(*sys.argv[1:])"
        command = [
            sys.executable,
            "-c",
            script,
            str(data),
            str(tokenizer_directory),
            str(tmp_path / str(megabytes)),
        ]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, timeout=200).stdout))
    # Text, tokens and document ids of the larger corpus, held at once, would be some 80 MB more.
    assert peaks[1] - peaks[0] < 25_000
