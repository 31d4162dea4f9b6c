"""reward: what it learns, what strength does, what it writes, and that nothing is lost when it is interrupted."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from model import load
from model.artifact.hashing import content_hash
from model.artifact.provenance import read_provenance
from model.errors import ArtifactError, InterruptedRunError
from model.reward import HEAD_FILE, Conversation, RewardModel
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageOutcome
from stages.common.training.loop import TrainingLoop
from stages.reward.plan import plan
from stages.reward.stage import STAGE
from tests.stages.common.data.helpers import WORDS
from tests.stages.dpo.conftest import pair, pairs, settings
from tests.stages.dpo.helpers import logged

__all__ = ["pairs", "settings"]
Settings = dict[str, Any]


def reward(settings: Settings, out: Path) -> StageOutcome:
    config = STAGE.config.model_validate(settings)
    return run_stage(STAGE, config, out=out, reporter=QuietReporter(), command=["nano2", "reward"])


def _score(out: Path, word: str, side: str) -> float:
    row = pair(word)
    messages = [*row["prompt"], {"role": "assistant", "content": row[side]}]
    return RewardModel.load(out).score([Conversation(messages)])[0]


def test_it_learns_to_rank_pairs_that_it_has_not_seen(settings: Settings, tmp_path: Path) -> None:
    outcome = reward(settings | {"epochs": 6, "learning_rate": 3e-3}, tmp_path / "reward")
    lines = logged(tmp_path / "reward")
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert lines[-1]["loss"] < 0.3
    metrics = outcome.result.metrics
    assert metrics["pairs_held_out"] >= 3
    assert metrics["validation_accuracy"] == 1
    assert metrics["validation_loss"] < 0.5
    assert _score(tmp_path / "reward", "zebra", "chosen") > _score(tmp_path / "reward", "zebra", "rejected")


def test_it_is_measured_on_pairs_of_a_file_that_it_does_not_train_on(
    settings: Settings, tmp_path: Path
) -> None:
    """The file prefers what the training pairs reject: a model that learnt ranks all of it wrong."""
    rows = [pair(word) for word in ("zebra", "yacht", "violin")]
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    path = tmp_path / "held-out.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in turned))
    more = {"validation": [str(path)], "validation_fraction": 0, "epochs": 6, "learning_rate": 3e-3}
    metrics = reward(settings | more, tmp_path / "reward").result.metrics
    assert metrics["pairs_held_out"] == 3
    assert metrics["validation_accuracy"] == 0


def test_the_artifact_is_a_checkpoint_with_a_head(settings: Settings, model: Path, tmp_path: Path) -> None:
    reward(settings, tmp_path / "reward")
    provenance = read_provenance(tmp_path / "reward")
    assert provenance is not None
    assert provenance.kind == "reward"
    assert HEAD_FILE in provenance.files
    # vLLM takes every *.safetensors of the directory for the network's weights
    assert [path.name for path in (tmp_path / "reward").glob("*.safetensors")] == ["model.safetensors"]
    before, after = load(model).state_dict(), load(tmp_path / "reward").state_dict()
    assert (before["lm_head.weight"] == after["lm_head.weight"]).all()
    changed = [name for name in before if not (before[name] == after[name]).all()]
    assert len(changed) == len(before) - 1


def test_a_pair_counts_as_much_as_its_strength(settings: Settings, tmp_path: Path) -> None:
    """Two groups of prompts with opposite preferences: the stronger one wins where they contradict each other."""

    def contradicting(strong: float, weak: float, name: str) -> float:
        path = tmp_path / f"{name}.jsonl"
        rows = []
        for word in dict.fromkeys(WORDS):
            row = pair(word)
            rows.append(row | {"strength": strong})
            rows.append(row | {"chosen": row["rejected"], "rejected": row["chosen"], "strength": weak})
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = {"data": [str(path)], "validation_fraction": 0, "epochs": 4, "learning_rate": 3e-3}
        reward(settings | data, tmp_path / name)
        return _score(tmp_path / name, "wheel", "chosen") - _score(tmp_path / name, "wheel", "rejected")

    assert contradicting(3.0, 1.0, "for") > 0.3
    assert contradicting(1.0, 3.0, "against") < -0.3


def test_sides_that_differ_in_reasoning_alone_are_left_out(
    settings: Settings, pairs: Path, tmp_path: Path
) -> None:
    rows = [pair("wheel") | {"chosen": "Four.", "rejected": "<think>Two and two.</think>\nFour."}] * 2
    with pairs.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    assert reward(settings, tmp_path / "reward").result.metrics["pairs_left_out"] == 2
    pairs.write_text(json.dumps(rows[0]))
    with pytest.raises(ArtifactError, match="none of its 1 pairs is left"):
        reward(settings, tmp_path / "other")


def test_interrupted_and_continued_it_gives_the_same_weights(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward(settings, tmp_path / "whole")
    step, done = TrainingLoop._step, 0

    def counted(self: Any, log: Any, bar: Any) -> bool:
        nonlocal done
        done += 1
        if done == 3:
            self.context.stop.signal_name = "SIGTERM"
        return step(self, log, bar)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", counted)
        with pytest.raises(InterruptedRunError):
            reward(settings, tmp_path / "reward")
    reward(settings, tmp_path / "reward")
    assert content_hash(tmp_path / "reward") == content_hash(tmp_path / "whole")


def test_the_plan_estimates_the_steps_of_the_run(settings: Settings, tmp_path: Path) -> None:
    settings |= {"epochs": 3}
    estimate = plan(STAGE.config.model_validate(settings))
    steps = reward(settings, tmp_path / "reward").result.metrics["steps"]
    assert estimate.sections["Work"]["steps"] == pytest.approx(steps, rel=0.1)
