import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from evals.chat_lines import read_chat
from evals.graders.grade import grade_text
from model.artifact.hashing import content_hash
from model.artifact.provenance import read_provenance
from model.errors import UsageError
from stages.common.data.chat.encoding import encode_sample
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.harness import run_stage
from stages.common.preferences.lines import read_pairs
from stages.common.reporter import QuietReporter
from stages.common.stage import StageOutcome
from stages.data.stage import SYNTH
from stages.data.synth.catalog import FAMILIES
from stages.data.synth.config import DEFAULT_KINDS, SynthConfig
from stages.data.synth.drawing import sources
from stages.data.synth.verification import verify

REPOSITORY = Path(__file__).resolve().parents[4]

Runner = Callable[..., tuple[StageOutcome, Path]]


@pytest.fixture
def synth(tmp_path: Path) -> Runner:
    def run(name: str = "out", **settings: Any) -> tuple[StageOutcome, Path]:
        config = SynthConfig(**{"train": 60, "dev": 20, "test": 20, **settings})
        return run_stage(
            SYNTH, config, out=tmp_path / name, reporter=QuietReporter(), command=["nano2"]
        ), tmp_path / name

    return run


def conversation(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a row in either form."""
    return row["messages"] if "messages" in row else row["prompt"] + row["completion"]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_artifact(synth: Runner) -> None:
    outcome, out = synth(train=500, dev=200, test=100, thinking=0.7, traces=["short", "checked"])
    provenance = read_provenance(out)
    assert provenance is not None
    assert (provenance.kind, provenance.seed) == ("dataset", 0)
    assert sorted(provenance.files) == ["dev.jsonl", "test.jsonl", "train.jsonl"]
    everything = {name: rows(out / f"{name}.jsonl") for name in ("train", "dev", "test")}
    assert {name: len(found) for name, found in everything.items()} == {"train": 500, "dev": 200, "test": 100}
    identifiers = [row["id"] for found in everything.values() for row in found]
    assert len(set(identifiers)) == 800
    for name, found in everything.items():
        kinds = Counter(row["metadata"]["kind"] for row in found)
        assert kinds == {
            "reasoning": 0.6 * len(found),
            "instructions": 0.2 * len(found),
            "tools": 0.2 * len(found),
        }
        assert {row["metadata"]["split"] for row in found} == {name}
        default = {family.name for family in FAMILIES.values() if family.kind in DEFAULT_KINDS}
        assert {row["metadata"]["family"] for row in found} == default or name != "train"
        held_out = sum(row["metadata"]["held_out_wording"] for row in found)
        assert (held_out == 0) if name == "train" else (0.35 * len(found) < held_out < 0.65 * len(found))
        thinking = sum(row["thinking"] for row in found)
        assert 0.6 * len(found) < thinking < 0.8 * len(found)
        for row in found:
            has_reasoning = [
                "reasoning_content" in turn for turn in conversation(row) if turn["role"] == "assistant"
            ]
            assert all(has_reasoning) if row["thinking"] else not any(has_reasoning)
    metrics = outcome.result.metrics
    assert metrics["dialogues_tried"] - metrics["dialogues_thrown_away"] == metrics["tools_rows"] == 160
    assert metrics["dialogues_thrown_away"] > 0
    assert sum(item["train"] for item in outcome.result.rows) == 500


def test_rows_are_read_and_encoded_as_chats(synth: Runner, tokenizer_directory: Path) -> None:
    """What fine-tuning does with the rows."""
    tokenizer = ChatTokenizer.open(tokenizer_directory)
    _, out = synth(train=200, dev=0, test=0, thinking=0.5, error_rate=0.3)
    samples = list(read_chat(out / "train.jsonl"))
    assert len(samples) == 200
    after_slips = 0
    for sample in samples:
        encoded = encode_sample(tokenizer, sample)
        assert all(item.mask.any() for item in encoded)
        text = "".join(tokenizer.chat.decode(item.ids[item.mask == 1]) for item in encoded)
        assert sample.metadata is not None
        if sample.metadata.get("slips"):
            after_slips += 1
            assert sample.first_trained > 0
            assert "_the_" not in text  # the wrong name of a tool is not trained
        else:
            assert sample.messages is not None
    assert after_slips > 3


def test_answers_are_graded_by_their_own_graders(synth: Runner) -> None:
    _, out = synth(train=0, dev=0, test=100, kinds={"reasoning": 1, "instructions": 1})
    for row in rows(out / "test.jsonl"):
        assert grade_text(row["grader"], row["messages"][-1]["content"]).score == 1
        assert grade_text(row["grader"], "").score == 0


def test_a_row_that_its_grader_refuses_is_an_error(synth: Runner) -> None:
    _, out = synth(train=5, dev=0, test=0, families=["sums:1"])
    row = rows(out / "train.jsonl")[0]
    verify(row)
    row["messages"][-1]["content"] = "The answer is -1."
    with pytest.raises(AssertionError, match=f"{row['id']}: the grader gives the reference answer 0"):
        verify(row)


def test_the_same_settings_make_the_same_bytes_in_any_process(synth: Runner, tmp_path: Path) -> None:
    _, out = synth(seed=5)
    command = [
        sys.executable,
        "-m",
        "nano2cli",
        "data",
        "synth",
        "--train",
        "60",
        "--dev",
        "20",
        "--test",
        "20",
    ]
    for hash_seed in ("1", "2"):
        other = tmp_path / f"other{hash_seed}"
        subprocess.run(
            [*command, "--seed", "5", "-o", str(other)],
            check=True,
            capture_output=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        assert content_hash(other) == content_hash(out)
    _, another = synth("another", seed=6)
    assert content_hash(another) != content_hash(out)


def test_levels_are_those_asked_for(synth: Runner) -> None:
    _, out = synth(families=["sums:2-3", "chains:5", "layout", "stock:1"], min_level=2, max_level=9)
    levels: dict[str, set[int]] = {}
    for row in rows(out / "train.jsonl"):
        levels.setdefault(row["metadata"]["family"], set()).add(row["metadata"]["level"])
    assert levels == {"sums": {2, 3}, "chains": {5}, "layout": {2, 3, 4, 5, 6}, "stock": {1}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"families": ["summs"]}, "no family 'summs'"),
        ({"families": ["layout:7"]}, "'layout' has levels 1 to 6, and 7 is asked for"),
        ({"families": ["chains:10-13"]}, "'chains' has levels 1 to 12, and 13 is asked for"),
        ({"min_level": 7, "max_level": 9}, "'keywords' has levels 1 to 6, and 7 is asked for"),
        ({"families": ["sums"], "kinds": {"tools": 1}}, "none of the families is of the kind 'tools'"),
        ({"families": ["sums", "todo"], "kinds": {"tools": 1}}, "'sums' is of the kind 'reasoning'"),
        ({"families": ["equations:1"], "train": 2000}, "found no other"),
        ({"families": ["equations:1"], "train": 0, "test": 400}, "test.jsonl has"),
        (
            {"families": ["library:5"], "error_rate": 0.9, "train": 200},
            "200 dialogues of the family 'library' in a row failed",
        ),
    ],
)
def test_settings_that_cannot_be_met(
    synth: Runner, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as error:
        synth(**settings)
    assert error.value.where
    assert error.value.remedy
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".run")] == []


def test_all_problems_of_a_small_family_can_be_had(synth: Runner) -> None:
    """Sums of level 1 are 9**5 = 59,049; a tenth of them is found without trouble, and repeats are none."""
    _, out = synth(families=["booleans:1"], train=300, dev=40, test=40)
    questions = [row["messages"][0]["content"] for row in rows(out / "train.jsonl")]
    assert len(questions) == 300


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"families": ["sums:0"]}, "greater than or equal to 1"),
        ({"families": ["sums:51"]}, "less than or equal to 50"),
        ({"families": ["sums:3-1"]}, "levels 3-1 run backwards"),
        ({"families": ["sums:"]}, "is not NAME"),
        ({"families": ["sums:1-"]}, "is not NAME"),
        ({"families": [":1"]}, "is not NAME"),
        ({"families": ["sums:1", "sums:2"]}, "given twice"),
        ({"families": [""]}, "is not NAME"),
        ({"train": 0, "dev": 0, "test": 0}, "no rows are asked for"),
        ({"train": -1}, "greater than or equal to 0"),
        ({"train": "20T"}, "less than or equal to 10000000"),
        ({"kinds": {"tools": float("inf")}}, "finite"),
        ({"kinds": {"poems": 1}}, "reasoning"),
        ({"kinds": {"tools": 0}}, "greater than 0"),
        ({"kinds": {"tools": float("nan")}}, "nan|NaN|finite|greater"),
        ({"min_level": 3, "max_level": 2}, "min_level 3 is above max_level 2"),
        ({"traces": []}, "at least 1"),
        ({"traces": ["tiny"]}, "short"),
        ({"thinking": 1.5}, "less than or equal to 1"),
        ({"error_rate": 1.0}, "less than or equal to 0.9"),
        ({"levels": 3}, "levels"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SynthConfig(**settings)


def test_settings_are_recorded_as_they_are_given() -> None:
    config = SynthConfig(families=["sums:2", "todo"])
    assert config.resolved({})["families"] == ["sums:2-2", "todo"]
    assert SynthConfig(**config.model_dump(mode="json")) == config


def test_the_help_page_names_every_family() -> None:
    words = re.findall(r"[a-z]+", SynthConfig.__doc__ or "")
    assert set(FAMILIES) <= set(words)


def test_the_recipe_is_met_by_what_there_is() -> None:
    recipe = yaml.safe_load((REPOSITORY / "recipes/cpu/synth.yaml").read_text())
    assert recipe.pop("stage") == "data synth"
    found = sources(SynthConfig(**recipe))
    assert {source.family.kind for source in found} == {"reasoning", "instructions", "tools"}


def test_nothing_is_imported_that_takes_long() -> None:
    code = "import sys, stages.data.synth.config; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "[]"


def test_pairs_prefer_what_the_grader_accepts(synth: Runner) -> None:
    outcome, out = synth(
        train=200,
        kinds={"reasoning": 1, "instructions": 1, "tools": 1},
        thinking=0.5,
        max_level=2,
        pairs=True,
    )
    chats = {row["id"]: row for row in rows(out / "train.jsonl")}
    pairs = rows(out / "train-pairs.jsonl")
    assert len(pairs) == outcome.result.metrics["train_pairs"] > 80
    assert {pair["metadata"]["kind"] for pair in pairs} == {"reasoning", "instructions"}
    for sample, pair in zip(read_pairs(out / "train-pairs.jsonl"), pairs, strict=True):
        spec = chats[pair["id"]]["grader"]
        scores = [grade_text(spec, sample.side(side)[0].text).score for side in ("chosen", "rejected")]
        assert scores[0] == 1
        assert sample.strength == 1 - scores[1] > 0
    assert not (synth("without")[1] / "train-pairs.jsonl").exists()


def test_flaws_are_in_train_alone_and_change_nothing_else(synth: Runner) -> None:
    wanted = {"train": 200, "dev": 40, "test": 40, "kinds": {"desk": 1}, "families": ["desk:1"]}
    _, sound = synth("sound", **wanted)
    outcome, flawed = synth("flawed", **wanted, flawed=0.4)
    assert (flawed / "test.jsonl").read_bytes() == (sound / "test.jsonl").read_bytes()
    share = sum(row["metadata"].get("flawed", False) for row in rows(flawed / "train.jsonl"))
    assert 60 <= share == outcome.result.metrics["flawed_rows"] <= 100
