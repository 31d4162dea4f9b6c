"""From chat jsonl to the rows that training reads."""

import json
import pickle
import re
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from evals.chat_lines import read_chat
from model.artifact.hashing import content_hash
from model.chat.template import read_template
from model.errors import ArtifactError
from model.loss import IGNORED
from stages.common.config import WeightedPath
from stages.common.data.chat import rows
from stages.common.data.chat.encoding import encode_sample
from stages.common.data.chat.rows import PreparedChats, prepare_chat
from stages.common.data.chat.settings import ChatDataSettings
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.packed_dataset import PackedDataset, PackedRows
from stages.common.reporter import QuietReporter
from stages.common.training.batches import Batch
from tests.model.chat.builders import assistant, call, calls, result, user
from tests.stages.common.data.chat.conversations import CONVERSATIONS
from tests.stages.common.data.helpers import story

PLAIN = {"strip_traces": 0.0, "truncate_traces": 0.0, "validation_fraction": 0.0}


def write_chat(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def reasoned(number: int, words: int = 30) -> dict[str, Any]:
    return {
        "messages": [
            user(f"Question {number}?"),
            assistant(f"Answer {number}.", reasoning=story(number, words)),
        ]
    }


def prepare(
    tmp_path: Path, tokenizer: ChatTokenizer, *data: str | Path, **settings: Any
) -> tuple[PackedDataset, PreparedChats, QuietReporter]:
    out = tmp_path / "out"
    out.mkdir()
    reporter = QuietReporter()
    sources = [WeightedPath.model_validate(str(path)) for path in data]
    prepared = prepare_chat(sources, tokenizer.directory, ChatDataSettings(**settings), out, reporter)
    return PackedDataset.open(out), prepared, reporter


def documents(rows: PackedRows) -> list[tuple[list[int], list[int]]]:
    """(ids, mask) of each document of each row."""
    found = []
    for index in range(len(rows)):
        row = rows[index]
        assert row.loss_mask is not None
        for number in range(row.document_ids.max() + 1):
            here = row.document_ids == number
            found.append((row.input_ids[here].tolist(), row.loss_mask[here].tolist()))
    return found


def encoded(tokenizer: ChatTokenizer, *paths: Path) -> list[tuple[list[int], list[int]]]:
    return [
        (item.ids.tolist(), item.mask.tolist())
        for path in paths
        for sample in read_chat(path)
        for item in encode_sample(tokenizer, sample)
    ]


def test_rows_hold_every_sample_once_with_its_mask(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_chat(tmp_path / "fifty.jsonl", CONVERSATIONS)
    dataset, prepared, _ = prepare(tmp_path, tokenizer, path, seq_len=2048, **PLAIN)
    assert sorted(documents(dataset.sources["fifty"])) == sorted(encoded(tokenizer, path))
    counts = prepared.description.sources["fifty"]
    assert dataset.description == prepared.description
    assert (counts.read, counts.held_out, counts.cut_documents) == (50, 0, 0)
    assert counts.tokens == sum(len(ids) for ids, _ in encoded(tokenizer, path))
    assert counts.trained_tokens == sum(sum(mask) for _, mask in encoded(tokenizer, path))
    assert counts.rows < counts.documents / 4
    assert dataset.description.tokenizer == content_hash(tokenizer.directory)
    assert (dataset.directory / "chat_template.jinja").is_file()
    assert dataset.validation is None


def test_what_a_batch_trains_is_the_mask_and_no_more(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_chat(tmp_path / "fifty.jsonl", CONVERSATIONS)
    dataset, prepared, _ = prepare(tmp_path, tokenizer, path, seq_len=2048, **PLAIN)
    rows = dataset.sources["fifty"]
    trained = []
    for index in range(len(rows)):
        row = rows[index]
        labels = Batch.of([row]).labels_BT[0].numpy()
        places = np.flatnonzero(labels != IGNORED)
        assert (labels[places] == row.input_ids[places + 1]).all()
        assert row.loss_mask is not None
        assert (places + 1).tolist() == np.flatnonzero(row.loss_mask).tolist()
        trained += labels[places].tolist()
    assert len(trained) == prepared.description.sources["fifty"].trained_tokens
    assert sorted(trained) == sorted(
        token for ids, mask in encoded(tokenizer, path) for token, kept in zip(ids, mask, strict=True) if kept
    )


def test_without_packing_a_row_holds_one_sample(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_chat(tmp_path / "a.jsonl", [reasoned(number) for number in range(9)])
    dataset, _, _ = prepare(tmp_path, tokenizer, path, seq_len=512, packing=False, **PLAIN)
    rows = dataset.sources["a"]
    assert len(rows) == 9
    assert documents(rows) == encoded(tokenizer, path)
    assert all(rows[index].document_ids.max() == 0 for index in range(9))


def test_concatenated_samples_are_one_document(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_chat(tmp_path / "a.jsonl", [reasoned(number) for number in range(20)])
    alone = encoded(tokenizer, path)
    dataset, prepared, _ = prepare(tmp_path, tokenizer, path, seq_len=1024, concatenate_tokens=600, **PLAIN)
    joined = documents(dataset.sources["a"])
    assert 3 < len(joined) < 20
    assert all(len(ids) <= 600 for ids, _ in joined)
    starts = [
        next(n for n, (sample, _) in enumerate(alone) if ids[: len(sample)] == sample) for ids, _ in joined
    ]
    in_order = [pair for _, pair in sorted(zip(starts, joined, strict=True))]
    for part in (0, 1):  # ids, masks
        assert list(chain(*(pair[part] for pair in in_order))) == list(chain(*(pair[part] for pair in alone)))
    assert any("concatenate: 20 samples in" in note for note in prepared.notes)


def test_long_samples_are_left_out_whole_counted_and_named(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_chat(tmp_path / "a.jsonl", [reasoned(1), reasoned(2, 900), reasoned(3), reasoned(4, 800)])
    dataset, prepared, reporter = prepare(tmp_path, tokenizer, path, seq_len=512, **PLAIN)
    kept = [pair for pair in encoded(tokenizer, path) if len(pair[0]) <= 512]
    assert sorted(documents(dataset.sources["a"])) == sorted(kept)
    assert len(kept) == 2
    longest = max(len(ids) for ids, _ in encoded(tokenizer, path))
    [warning] = reporter.warnings
    assert warning == (
        f"2 samples are longer than 512 tokens and were left out (the longest has {longest}): "
        f"{path} line 2, {path} line 4"
    )
    assert warning in prepared.notes
    assert prepared.description.sources["a"].read == 4


def test_held_out_samples_are_whole_and_not_trained(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    lines = [reasoned(number) for number in range(200)]
    path = write_chat(tmp_path / "a.jsonl", lines + lines)
    dataset, prepared, _ = prepare(
        tmp_path, tokenizer, path, seq_len=1024, validation_fraction=0.2, strip_traces=1.0, truncate_traces=1.0,
        truncate_from=4, truncate_to=6,
    )  # fmt: skip
    assert dataset.validation is not None
    held, trained = documents(dataset.validation), documents(dataset.sources["a"])
    original = encoded(tokenizer, path)
    assert all(pair in original for pair in held)

    def questions(pairs: list[tuple[list[int], list[int]]]) -> set[str]:
        return {
            found[0] for ids, _ in pairs if (found := re.findall(r"Question \d+", tokenizer.chat.decode(ids)))
        }

    assert not questions(held) & questions(trained)  # a copy shares the fate of its original
    assert len(questions(held) | questions(trained)) == 200
    assert 40 <= len(held) <= 120
    counts = prepared.description.sources["a"]
    assert counts.held_out == len(held)
    assert counts.documents == len(trained) == 2 * (400 - len(held))


def test_sources_weights_and_directories(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    first = write_chat(tmp_path / "first.jsonl", [reasoned(number) for number in range(5)])
    (tmp_path / "tools").mkdir()
    write_chat(tmp_path / "tools" / "chat.jsonl", [{"prompt": "a", "completion": "b"}])
    dataset, _, _ = prepare(tmp_path, tokenizer, f"{first}:3", tmp_path / "tools", seq_len=512, **PLAIN)
    assert dataset.phases[-1] == {"first": 3.0, "tools": 1.0}
    assert list(dataset.sources) == ["first", "tools"]
    [(ids, mask)] = documents(dataset.sources["tools"])
    assert (ids[0], ids[-1], mask) == (tokenizer.text.begin_id, tokenizer.text.end_id, [0, 0, 1, 1])


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_chat(tmp_path / "a.jsonl", [reasoned(number) for number in range(60)])
    hashes = []
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        dataset, _, _ = prepare(
            tmp_path / name, tokenizer, path, seq_len=512, strip_traces=0.5, truncate_traces=0.5, truncate_from=4,
            truncate_to=9, data_seed=int(name == "three"),
        )  # fmt: skip
        hashes.append(content_hash(dataset.directory))
    assert hashes[0] == hashes[1] != hashes[2]


def test_decontamination_is_told(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_chat(tmp_path / "a.jsonl", [reasoned(number) for number in range(6)])
    evals = write_chat(tmp_path / "eval.jsonl", [{"question": story(4, 30)}])
    dataset, prepared, reporter = prepare(
        tmp_path, tokenizer, path, seq_len=512, decontaminate=[evals], **PLAIN
    )
    assert dataset.description.sources["a"].documents == 5
    assert prepared.notes[0] == "decontaminate: 1 samples share 13 words in a row with evaluation data"
    assert f"{path} line 5 and {evals} line 1" in prepared.notes[1]
    assert reporter.messages[:2] == prepared.notes[:2]


def test_oddities_are_told(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    calling = {"messages": [user("a"), calls(call("f")), result(), assistant("b")]}
    described = {"messages": [{"role": "system", "content": "Tools: f()."}, *calling["messages"]]}
    path = write_chat(
        tmp_path / "a.jsonl",
        [calling, {**calling, "tools": [{"name": "f"}]}, {"messages": [user("a /think"), assistant("b")]}]
        + [calling] * 4
        + [described, {**described, "tools": [{"name": "g"}]}, calling],
    )
    _, _, reporter = prepare(tmp_path, tokenizer, path, seq_len=512, **PLAIN)
    unlisted, thinking = reporter.warnings
    assert unlisted.startswith(
        f"7 samples call a tool that their tools do not list: {path} line 1, {path} line 4"
    )
    assert f"{path} line 8" not in unlisted  # the system message tells of tools
    assert unlisted.endswith("line 7 and 2 more")
    assert thinking.startswith("1 samples have thinking on and no reasoning")


class TestRefusals:
    def test_a_broken_line(self, tmp_path: Path, tokenizer: ChatTokenizer) -> None:
        path = write_chat(tmp_path / "a.jsonl", [reasoned(1), {"messages": [user(3)]}])
        with pytest.raises(ArtifactError, match=r"a.jsonl line 2: messages\[0\].content"):
            prepare(tmp_path, tokenizer, path)

    def test_a_sample_that_cannot_be_trained(self, tmp_path: Path, tokenizer: ChatTokenizer) -> None:
        path = write_chat(tmp_path / "a.jsonl", [reasoned(1), {"messages": [user("a")]}])
        with pytest.raises(ArtifactError, match=r"a.jsonl line 2: has no assistant turn"):
            prepare(tmp_path, tokenizer, path)

    def test_nothing_is_left(self, tmp_path: Path, tokenizer: ChatTokenizer) -> None:
        path = write_chat(tmp_path / "a.jsonl", [reasoned(1, 500)])
        with pytest.raises(ArtifactError, match=r"source a .*none of its 1 samples is left .*longer than 64"):
            prepare(tmp_path, tokenizer, path, seq_len=64)

    def test_an_empty_file(self, tmp_path: Path, tokenizer: ChatTokenizer) -> None:
        (tmp_path / "a.jsonl").write_text("\n")
        with pytest.raises(ArtifactError, match=r"source a \(.*a.jsonl\): has no samples"):
            prepare(tmp_path, tokenizer, tmp_path / "a.jsonl")

    def test_an_empty_file_is_met_before_the_next_is_read(
        self, tmp_path: Path, tokenizer: ChatTokenizer
    ) -> None:
        (tmp_path / "a.jsonl").write_text("")
        (tmp_path / "b.jsonl").write_text("{")
        with pytest.raises(ArtifactError, match="has no samples"):
            prepare(tmp_path, tokenizer, tmp_path / "a.jsonl", tmp_path / "b.jsonl")

    def test_it_can_be_ended_from_outside(self, tmp_path: Path, tokenizer: ChatTokenizer) -> None:
        path = write_chat(tmp_path / "a.jsonl", [reasoned(number) for number in range(9)])
        calls_seen: list[int] = []

        def check() -> None:
            calls_seen.append(1)
            if len(calls_seen) == 4:
                raise KeyboardInterrupt

        (tmp_path / "out").mkdir()
        with pytest.raises(KeyboardInterrupt):
            prepare_chat(
                [WeightedPath(path=path)], tokenizer.directory, ChatDataSettings(), tmp_path / "out", QuietReporter(),
                check=check,
            )  # fmt: skip
        assert len(calls_seen) == 4
        assert not (tmp_path / "out" / "dataset.json").exists()

    def test_other_data(self, tmp_path: Path, tokenizer: ChatTokenizer) -> None:
        (tmp_path / "a.txt").write_text("x")
        with pytest.raises(ArtifactError, match="is no chat jsonl"):
            prepare(tmp_path, tokenizer, tmp_path / "a.txt")

    def test_a_broken_template_is_met_by_chats_alone(self, tmp_path: Path, with_template: Any) -> None:
        """One that spoils no sample here is refused all the same."""
        tokenizer = with_template(read_template().replace("{%- if tools -%}", "{%- if false -%}"))
        chats = write_chat(tmp_path / "a.jsonl", [reasoned(1)])
        with pytest.raises(ArtifactError, match="leaves out the list of tools"):
            prepare(tmp_path, tokenizer, chats)
        (tmp_path / "text").mkdir()
        texts = write_chat(tmp_path / "b.jsonl", [{"prompt": "a", "completion": "b"}])
        assert prepare(tmp_path / "text", tokenizer, texts, **PLAIN)[1].description.masked

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"truncate_from": 9, "truncate_to": 8}, "truncate_from 9 is above truncate_to 8"),
            ({"seq_len": 512, "concatenate_tokens": 1024}, "does not fit into rows of seq_len 512"),
            ({"strip_traces": 1.5}, "less than or equal to 1"),
            ({"truncate_from": 0}, "greater than or equal to 1"),
            ({"episodes": "first"}, "'each' or 'last'"),
        ],
    )
    def test_settings(self, settings: dict[str, Any], words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            ChatDataSettings(**settings)


def test_workers_change_nothing(
    tmp_path: Path, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_BATCH_SAMPLES", 20)
    monkeypatch.setattr(rows, "_BATCHES_HERE", 1)
    paths = [
        write_chat(tmp_path / f"{name}.jsonl", [reasoned(start + number) for number in range(50)])
        for name, start in (("a", 0), ("b", 50))
    ]
    hashes = set()
    for workers in (1, 2):
        (tmp_path / str(workers)).mkdir()
        dataset, _, _ = prepare(tmp_path / str(workers), tokenizer, *paths, seq_len=512, workers=workers)
        hashes.add(content_hash(dataset.directory))
    assert len(hashes) == 1


def test_what_a_worker_refuses_is_told_whole(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_chat(tmp_path / "a.jsonl", [{"messages": [user("a")]}])
    with pytest.raises(ArtifactError) as caught:
        prepare(tmp_path, tokenizer, path)
    received = pickle.loads(pickle.dumps(caught.value))  # as from a worker's process
    assert (received.what, received.where, received.remedy) == (
        "has no assistant turn to train on",
        f"{path} line 1",
        "repair or remove the line",
    )
