"""dpo on the model's own answers: it learns, says what came of each round, ends clearly, and continues bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from evals.episodes.episode import Episode
from model.artifact.hashing import content_hash
from model.errors import ArtifactError, InterruptedRunError, UsageError
from stages.common.harness import run_stage
from stages.common.preferences.store import load_pairs
from stages.common.reporter import QuietReporter
from stages.common.rewards.grading import Grading
from stages.common.rewards.part import Failure
from stages.common.training.loop import TrainingLoop
from stages.dpo import rounds
from stages.dpo.plan import plan
from stages.dpo.stage import STAGE
from stages.sft.stage import STAGE as SFT
from tests.stages.common.data.helpers import WORDS
from tests.stages.dpo.helpers import Settings, dpo, logged

THINGS = list(dict.fromkeys(WORDS))[:12]
NO_COMMA = {
    "name": "instructions",
    "instruction_id_list": ["punctuation:no_comma"],
    "kwargs": [{}],
    "strict": True,
    "prompt": "",
}


def question(word: str, answer: str | None = None) -> dict[str, Any]:
    said = [] if answer is None else [{"role": "assistant", "content": answer}]
    return {"messages": [{"role": "user", "content": f"What of the {word}?"}, *said], "thinking": False}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def undecided(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers with a comma about every second time."""
    directory = tmp_path_factory.mktemp("undecided")
    answers = ("Yes.", "No, sir.")
    chats = write(
        directory / "chats.jsonl", [question(word, answer) for word in THINGS for answer in answers] * 3
    )
    settings = {
        "model": str(model),
        "data": [str(chats)],
        "seq_len": 128,
        "batch_tokens": 1024,
        "micro_batch": 8,
        "learning_rate": 1e-2,
        "epochs": 8,
        "strip_traces": 0,
        "truncate_traces": 0,
        "validation_fraction": 0,
        "tensorboard": False,
        "device": "cpu",
    }
    config = SFT.config.model_validate(settings)
    run_stage(SFT, config, out=directory / "model", reporter=QuietReporter(), command=["nano2", "sft"])
    return directory / "model"


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return _written_prompts(tmp_path)


def _written_prompts(folder: Path) -> Path:
    return write(folder / "questions.jsonl", [question(word) | {"grader": NO_COMMA} for word in THINGS])


@pytest.fixture
def settings(undecided: Path, prompts: Path) -> Settings:
    return _two_rounds(undecided, prompts)


def _two_rounds(undecided: Path, prompts: Path) -> Settings:
    return {
        "model": str(undecided),
        "prompts": [str(prompts)],
        "seq_len": 256,
        "batch_pairs": 12,
        "micro_batch": 4,
        "learning_rate": 1e-3,
        "beta": 0.1,
        "rounds": 2,
        "steps_per_round": 4,
        "samples": 4,
        "pairs_per_prompt": 2,
        "max_tokens": 12,
        "log_every": 1,
        "tensorboard": False,
        "device": "cpu",
    }


@pytest.fixture(scope="module")
def whole(undecided: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The content hash of an undisturbed run's model."""
    folder = tmp_path_factory.mktemp("whole")
    dpo(_two_rounds(undecided, _written_prompts(folder)), folder / "tuned")
    return content_hash(folder / "tuned")


def test_right_answers_become_more_frequent_from_round_to_round(settings: Settings, tmp_path: Path) -> None:
    outcome = dpo(settings | {"rounds": 3}, tmp_path / "tuned")
    rows = outcome.result.rows
    assert [row["round"] for row in rows] == [1, 2, 3][: len(rows)]
    assert rows[0]["samples"] == len(THINGS) * 4
    assert 0.15 < rows[0]["right"] < 0.85
    assert rows[-1]["right"] > rows[0]["right"] + 0.1
    assert outcome.result.metrics["right_in_last_round"] == rows[-1]["right"]
    lines = logged(tmp_path / "tuned")
    assert [line["round"] for line in lines[:8]] == [1] * 4 + [2] * 4
    first_of_rounds = [line for line in lines if line["step"] % 4 == 1]
    assert all(line["rewards/margins"] == pytest.approx(0, abs=1e-4) for line in first_of_rounds)
    assert all(line["rollouts/pairs"] > 0 for line in lines)


def test_what_the_model_sampled_is_trained_as_it_was(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    episodes: list[Any] = []
    play = rounds.play

    def kept(*args: Any, **kwargs: Any) -> Any:
        episodes.extend(played := play(*args, **kwargs))
        return played

    monkeypatch.setattr(rounds, "play", kept)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", _dying(2))
        with pytest.raises(RuntimeError):
            dpo(settings, tmp_path / "tuned")
    made = load_pairs(tmp_path / "tuned.run" / "round-00001")
    assert made is not None
    sampled = {(tuple(e.ids), tuple(e.sampled)) for e in episodes}
    for pair in made.pairs:
        for side in (pair.chosen, pair.rejected):
            assert (tuple(side.ids.tolist()), tuple(map(bool, side.mask.tolist()))) in sampled
    assert made.reference_P2 is not None
    engine = {tuple(e.ids): sum(e.logprobs) for e in episodes}
    for pair, logps in zip(made.pairs, made.reference_P2.tolist(), strict=True):
        assert logps[0] == pytest.approx(engine[tuple(pair.chosen.ids.tolist())], abs=1e-3)
        assert logps[1] == pytest.approx(engine[tuple(pair.rejected.ids.tolist())], abs=1e-3)


def _dying(at: int) -> Any:
    step, done = TrainingLoop._step, 0

    def counted(self: Any, log: Any, bar: Any) -> bool:
        nonlocal done
        done += 1
        if done == at:
            raise RuntimeError("power cut")
        return step(self, log, bar)

    return counted


@pytest.mark.parametrize("at", [3, 6])
@pytest.mark.parametrize("save_seconds", [0, 300])
def test_cut_off_without_warning_it_gives_the_same_weights(
    settings: Settings,
    whole: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    save_seconds: float,
) -> None:
    """With a state of the last step, or with none at all: then what is kept of a round serves the steps run again."""
    settings |= {"save_seconds": save_seconds}
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", _dying(at))
        with pytest.raises(RuntimeError):
            dpo(settings, tmp_path / "tuned")
    dpo(settings, tmp_path / "tuned")
    assert content_hash(tmp_path / "tuned") == whole


@pytest.mark.parametrize("call", [1, 2])
def test_interrupted_while_it_samples_it_gives_the_same_weights(
    settings: Settings, whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    play, done = rounds.play, 0

    def interrupting(*args: Any, check: Any, **kwargs: Any) -> Any:
        nonlocal done
        done += 1
        steps = 0

        def counted() -> None:
            nonlocal steps
            steps += 1
            if done == call and steps == 5:
                raise InterruptedRunError("interrupted", remedy="run the same command to continue")
            check()

        return play(*args, check=counted, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "play", interrupting)
        with pytest.raises(InterruptedRunError):
            dpo(settings, tmp_path / "tuned")
    dpo(settings, tmp_path / "tuned")
    assert content_hash(tmp_path / "tuned") == whole


def test_seeds_belong_to_question_and_sample_and_not_to_the_place_in_the_file(
    settings: Settings, prompts: Path, tmp_path: Path
) -> None:
    def right(name: str) -> float:
        return dpo(settings | {"rounds": 1}, tmp_path / name).result.rows[0]["right"]

    first = right("a")
    lines = prompts.read_text().splitlines(keepends=True)
    prompts.write_text("".join(reversed(lines)))
    assert right("b") == first


@pytest.mark.parametrize(
    ("grader", "words"),
    [
        ({"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": ["zebra"]}]}, "12 wrong ones"),
        ({"instruction_id_list": ["keywords:forbidden_words"], "kwargs": [{"forbidden_words": ["zebra"]}]}, "right"),
    ],
)  # fmt: skip
def test_without_any_pair_in_the_first_round_it_ends_clearly(
    settings: Settings, prompts: Path, tmp_path: Path, grader: dict[str, Any], words: str
) -> None:
    write(prompts, [question(word) | {"grader": NO_COMMA | grader} for word in THINGS])
    # Enough tokens that every answer comes to its end.
    with pytest.raises(ArtifactError, match=f"no question has both .* {words}") as caught:
        dpo(settings | {"max_tokens": 60}, tmp_path / "tuned")
    assert "samples" in caught.value.remedy
    assert not (tmp_path / "tuned").exists()
    assert not (
        tmp_path / "tuned.run"
    ).exists()  # nothing was trained, so nothing stands in the way of other settings


def test_a_later_round_without_pairs_ends_training_with_what_was_learned(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair_up, asked = rounds.pair_up, 0

    def drying_up(samples: Any, most: int) -> Any:
        nonlocal asked
        asked += 1
        return pair_up(samples, most) if asked <= len(THINGS) else []

    reporter = QuietReporter()
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "pair_up", drying_up)
        outcome = dpo(settings | {"rounds": 5}, tmp_path / "tuned", reporter)
    assert outcome.result.metrics["steps"] == 4
    assert outcome.result.metrics["rounds"] == 2
    assert any("training ends here, after 1 of 5 rounds" in warning for warning in reporter.warnings)
    dpo(settings | {"rounds": 1}, tmp_path / "one")
    names = ("model.safetensors", "config.json")
    assert all((tmp_path / "tuned" / n).read_bytes() == (tmp_path / "one" / n).read_bytes() for n in names)


def test_answers_that_break_their_grader_are_left_out_and_said(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = Grading.values

    def failing(self: Grading, episodes: Sequence[Episode]) -> list[float | Failure]:
        found = values(self, episodes)
        return [Failure("it broke") if index % 4 == 3 else value for index, value in enumerate(found)]

    monkeypatch.setattr(Grading, "values", failing)
    reporter = QuietReporter()
    outcome = dpo(settings | {"rounds": 1}, tmp_path / "tuned", reporter)
    assert outcome.result.rows[0]["not_graded"] == len(THINGS)
    assert any(
        "12 answers could not be graded and were left out: it broke (12 times)" in warning
        for warning in reporter.warnings
    )


def test_where_no_answer_can_be_graded_that_is_the_reason(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Grading, "values", lambda _, episodes: [Failure("it broke")] * len(episodes))
    reporter = QuietReporter()
    with pytest.raises(ArtifactError, match=r"0 wrong ones alone; 48 answers could not be graded"):
        dpo(settings | {"rounds": 1}, tmp_path / "tuned", reporter)
    assert any("it broke (48 times)" in warning for warning in reporter.warnings)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "has no questions"),
        ([question("wheel")], "has no grader"),
        ([question("wheel " * 200) | {"grader": NO_COMMA}], "has no questions that fit"),
        ([question("wheel") | {"grader": {"name": "nobody"}}], "nobody"),
        ([{"prompt": "a", "completion": "b", "grader": NO_COMMA}], "plain text"),
    ],
)
def test_questions_that_cannot_be_asked_are_refused(
    settings: Settings, prompts: Path, tmp_path: Path, rows: list[dict[str, Any]], words: str
) -> None:
    write(prompts, rows)
    with pytest.raises((ArtifactError, UsageError), match=words):
        dpo(settings, tmp_path / "tuned")


def test_the_plan_counts_sampling_and_training(settings: Settings) -> None:
    estimate = plan(STAGE.config.model_validate(settings))
    assert estimate.sections["Work"]["steps"] == 8
    assert estimate.sections["Data"]["sampled_tokens"] == 2 * len(THINGS) * 4 * 12
    assert estimate.sections["Work"]["sampling_flops"] > 0
    assert estimate.sections["Memory"]["rollout_states_bytes"] > 0


@pytest.mark.slow
def test_killed_in_mid_round_the_same_command_continues_bit_for_bit(
    settings: Settings, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(settings | {"save_seconds": 0.05, "rounds": 3}))

    def start(out: Path) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "nano2cli", "dpo", "--config", str(recipe), "-o", str(out)]
        )

    assert start(tmp_path / "whole").wait(200) == 0
    for number in (1, 2, 3):
        process = start(tmp_path / "tuned")
        deadline = time.monotonic() + 100
        wanted = tmp_path / "tuned.run" / f"round-{number:05d}"
        while process.poll() is None and not wanted.is_dir() and time.monotonic() < deadline:
            time.sleep(0.005)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert start(tmp_path / "tuned").wait(200) == 0
    assert content_hash(tmp_path / "tuned") == content_hash(tmp_path / "whole")
