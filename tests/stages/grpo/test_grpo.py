import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from model import load
from model.artifact.hashing import content_hash
from model.errors import ArtifactError, DivergedError, InterruptedRunError
from stages.common.reporter import QuietReporter
from stages.common.rewards.rewards import Reward
from stages.common.training import checkpoint
from stages.common.training.checkpoint import saved_states
from stages.common.training.loop import TrainingLoop
from stages.grpo import sampling
from stages.grpo.store import RolloutStore
from tests.stages.grpo.conftest import Grpo, Settings, logged, question, run_grpo, settings_in, write


def test_a_reward_that_no_sample_has_is_no_figure() -> None:
    judged, failed = Reward(0.5, {"grader": 0.5}), Reward(math.nan, {"grader": math.nan}, ("it hangs",))
    assert sampling.reward_figures([judged, failed])["reward"] == 0.5
    assert sampling.reward_figures([failed], prefix="validation_") == {"validation_failed": 1}


def test_a_run_logs_what_there_is_to_know(grpo: Grpo, tmp_path: Path) -> None:
    outcome = grpo(tmp_path / "out", kl=0.01, clip_high=0.28)
    lines = logged(tmp_path / "out")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    names = {
        *(
            "reward",
            "reward_std",
            "reward_grader_prompt_strict",
            "reward_length",
            "failed",
            "entropy",
            "length",
            "length_max",
        ),
        *(
            "truncated",
            "clip_low",
            "clip_high",
            "kl",
            "equal_groups",
            "replaced_groups",
            "tool_calls",
            "gap",
            "gap_max",
        ),
    }
    assert names <= lines[0].keys()
    for line in lines:
        assert line["clip_low"] == line["clip_high"] == 0  # one update on each batch
        assert line["gap_max"] < 1e-4
        assert 0 < line["entropy"] < math.log(400)
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert lines[-1]["kl"] > 1e-5
    assert outcome.result.metrics["prompts_asked"] == 12
    shown = [json.loads(line) for line in (tmp_path / "out" / "rollouts.jsonl").read_text().splitlines()]
    assert len(shown) == 6 * 4
    assert shown[0]["prompt"].endswith("<think></think>")
    assert shown[0].keys() >= {"step", "text", "reward", "parts", "advantage", "end"}
    assert not (tmp_path / "out.run").exists()


def test_the_reward_rises(grpo: Grpo, tmp_path: Path) -> None:
    brief = [{"kind": "length", "max_tokens": 4, "buffer": 4}]
    learning: Settings = {"steps": 20, "samples": 16, "micro_batch": 16, "learning_rate": 1e-2}
    grpo(tmp_path / "out", rewards=brief, max_tokens=4, **learning)
    rewards = [line["reward_length"] for line in logged(tmp_path / "out")]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.3  # it learns to be brief


def test_the_same_command_gives_the_same_weights_and_another_seed_others(grpo: Grpo, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        grpo(tmp_path / name, seed=seed, steps=2)
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b") != content_hash(tmp_path / "c")


class _KilledError(Exception):
    """Stands for a SIGKILL: nothing is saved behind it."""


@contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, killed_at: int, save_at: tuple[int, ...] = ()) -> Iterator[None]:
    """A run inside dies before the step behind number `killed_at`; states are saved behind those of `save_at`."""
    step = TrainingLoop._step

    def step_save_die(self: TrainingLoop[Any], *arguments: Any) -> bool:
        if self.counters.step == killed_at:
            raise _KilledError
        went_on = step(self, *arguments)
        if self.counters.step in save_at:
            self._save()
        return went_on

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", step_save_die)
        with pytest.raises(_KilledError):
            yield


THREE_UPDATES: Settings = {"updates": 3, "steps": 7, "resample": 1, "kl": 0.01}


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with three updates on each batch, and prompts replaced."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_grpo(settings_in(folder, model) | THREE_UPDATES, folder / "out")
    return folder / "out"


@pytest.mark.parametrize(("save_at", "killed_at"), [((), 2), ((1,), 2), ((2,), 5), ((1, 4), 5)])
def test_a_killed_run_continues_to_the_same_weights(
    grpo: Grpo,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    save_at: tuple[int, ...],
    killed_at: int,
) -> None:
    """States saved here and there, killed at any place."""
    with killed(monkeypatch, killed_at, save_at):
        grpo(tmp_path / "parts", **THREE_UPDATES)
    grpo(tmp_path / "parts", **THREE_UPDATES)
    assert content_hash(tmp_path / "parts") == content_hash(undisturbed)
    assert (tmp_path / "parts" / "rollouts.jsonl").read_text() == (undisturbed / "rollouts.jsonl").read_text()


def test_an_interruption_is_heeded_while_episodes_are_played(
    grpo: Grpo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grpo(tmp_path / "whole")
    play, calls = sampling.play, []

    def play_and_stop(*arguments: Any, check: Any, **settings: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            check.func.__self__.stop.signal_name = "SIGINT"
        return play(*arguments, check=check, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(sampling, "play", play_and_stop)
        with pytest.raises(InterruptedRunError, match="steps that are done are kept"):
            grpo(tmp_path / "parts")
    assert [path.name for path in checkpoint.saved_states(tmp_path / "parts.run")] == ["step-00000002"]
    grpo(tmp_path / "parts")
    assert content_hash(tmp_path / "parts") == content_hash(tmp_path / "whole")


def test_rollouts_are_kept_until_a_state_lies_behind_their_last_update(
    grpo: Grpo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[int, list[str]] = {}
    save = RolloutStore.save

    def look(self: RolloutStore, number: int, *arguments: Any) -> None:
        save(self, number, *arguments)
        kept[number] = sorted(path.stem.lstrip("0") or "0" for path in self._directory.glob("*.safetensors"))

    monkeypatch.setattr(RolloutStore, "save", look)
    grpo(tmp_path / "never", updates=2)
    assert kept == {0: ["0"], 1: ["0", "1"], 2: ["0", "1", "2"]}
    grpo(tmp_path / "always", updates=2, save_seconds=0)
    assert kept == {0: ["0"], 1: ["1"], 2: ["2"]}


def test_lost_rollouts_are_told(grpo: Grpo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = TrainingLoop._step

    def stop(self: TrainingLoop[Any], *arguments: Any) -> bool:
        if self.counters.step == 1:
            self.context.stop.signal_name = "SIGINT"
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", stop)
        with pytest.raises(InterruptedRunError):
            grpo(tmp_path / "out", updates=3)
    (tensors,) = (tmp_path / "out.run" / "rollouts").glob("*.safetensors")
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:100])
    with pytest.raises(ArtifactError, match="cannot be read"):
        grpo(tmp_path / "out", updates=3)
    tensors.unlink()
    with pytest.raises(ArtifactError, match="are gone"):
        grpo(tmp_path / "out", updates=3)
    tensors.write_bytes(whole)
    grpo(tmp_path / "out", updates=3)


def test_too_many_failed_rewards_stop_the_run_which_can_go_on(
    grpo: Grpo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grader part that does not exist fails for every sample from the third batch on."""
    of, calls = sampling.Rewards.of, []

    def fail_later(self: Any, episodes: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            episodes[0].task.grader["instruction_id_list"] = ["no:such"]
        return of(self, episodes)

    with monkeypatch.context() as patch:
        patch.setattr(sampling.Rewards, "of", fail_later)
        with pytest.raises(
            ArtifactError, match=r"4 of 8 samples have no reward: grader_prompt_strict: .* \(4 times\)"
        ) as caught:
            grpo(tmp_path / "out")
    assert "step 3 of 6" in str(caught.value)
    assert checkpoint.saved_states(tmp_path / "out.run")
    grpo(tmp_path / "out", max_failed=0.6)  # a limit is no reason to begin anew
    grpo(tmp_path / "whole")
    assert content_hash(tmp_path / "out") == content_hash(tmp_path / "whole")


def test_failed_samples_below_the_limit_are_left_out_and_counted(
    grpo: Grpo, settings: Settings, tmp_path: Path
) -> None:
    lines = [question(number) for number in range(6)]
    lines[0]["grader"] = {"name": "math", "answer": "1"}  # whose grade has no part "prompt_strict"
    write(tmp_path / "prompts.jsonl", lines)
    reporter = QuietReporter()
    grpo(tmp_path / "out", reporter, max_failed=0.5, prompts=6, steps=1)
    (line,) = logged(tmp_path / "out")
    assert line["failed"] == 4
    assert line["trained_episodes"] == 20
    assert math.isfinite(line["reward"])
    told = "4 samples have no reward and are left out: grader_prompt_strict: "
    assert any(told in warning for warning in reporter.warnings)


def test_all_equal_rewards_are_told_and_change_nothing(grpo: Grpo, model: Path, tmp_path: Path) -> None:
    reporter = QuietReporter()
    grpo(tmp_path / "out", reporter, rewards=[{"kind": "grader", "weight": 0.0}], weight_decay=0, steps=2)
    assert [line["equal_groups"] for line in logged(tmp_path / "out")] == [1, 1]
    assert sum("all groups have equal rewards" in warning for warning in reporter.warnings) == 2
    for mine, theirs in zip(load(model).parameters(), load(tmp_path / "out").parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_groups_of_equal_rewards_are_replaced_up_to_a_limit(grpo: Grpo, tmp_path: Path) -> None:
    equal = [{"kind": "grader", "weight": 0.0}]
    outcome = grpo(tmp_path / "equal", rewards=equal, steps=2, resample=3)
    assert [line["replaced_groups"] for line in logged(tmp_path / "equal")] == [6, 6]
    assert outcome.result.metrics["prompts_asked"] == 16
    grpo(tmp_path / "unlike", steps=2, resample=20, prompts=3, samples=2)
    lines = logged(tmp_path / "unlike")
    assert sum(line["replaced_groups"] for line in lines) > 0
    assert all(line["equal_groups"] == 0 for line in lines)


def test_a_gap_above_the_limit_stops_the_run(
    grpo: Grpo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Episodes that another model than the trained one made."""
    play, calls = sampling.play, []

    def drifting(lm: Any, *arguments: Any, **settings: Any) -> Any:
        calls.append(1)
        if len(calls) < 3:
            return play(lm, *arguments, **settings)
        kept = lm.lm_head.weight.detach().clone()
        lm.lm_head.weight.data.mul_(1.5)
        try:
            return play(lm, *arguments, **settings)
        finally:
            lm.lm_head.weight.data.copy_(kept)

    monkeypatch.setattr(sampling, "play", drifting)
    with pytest.raises(DivergedError, match=r"trainer and engine differ by 0\.\d+ nats") as caught:
        grpo(tmp_path / "out")
    assert caught.value.exit_code == 5
    assert "step 3 of 6" in str(caught.value)
    assert [path.name for path in checkpoint.saved_states(tmp_path / "out.run")] == ["step-00000002"]


def test_masking_what_was_cut(grpo: Grpo, tmp_path: Path) -> None:
    grpo(tmp_path / "kept", steps=1)
    grpo(tmp_path / "masked", steps=1, overlong="mask", max_tokens=40)
    (kept,), (masked,) = logged(tmp_path / "kept"), logged(tmp_path / "masked")
    assert kept["trained_episodes"] == 8
    assert masked["trained_episodes"] == 8 - round(8 * masked["truncated"]) < 8


def test_nothing_left_to_train(grpo: Grpo, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no episode can be trained"):
        grpo(
            tmp_path / "out",
            max_tokens=1,
            overlong="mask",
            rewards=[{"kind": "length", "max_tokens": 1, "buffer": 1}],
        )


def test_a_model_that_blows_up_is_a_divergence_and_is_not_kept(grpo: Grpo, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="logits are not finite") as caught:
        grpo(tmp_path / "out", learning_rate=1e30)
    assert caught.value.where.startswith("after step ")
    assert not saved_states(tmp_path / "out.run")


def test_validation_by_held_out_prompts(grpo: Grpo, tmp_path: Path) -> None:
    held_out = write(tmp_path / "dev.jsonl", [question(number) for number in range(20, 25)])
    outcome = grpo(tmp_path / "out", validation=[str(held_out)], validate_every=2, validation_tokens=16)
    lines = [line for line in logged(tmp_path / "out") if "validation_reward" in line]
    assert [line["step"] for line in lines] == [0, 2, 4, 6]
    assert outcome.result.metrics["validation_reward"] == lines[-1]["validation_reward"]


def test_the_reward_before_the_first_step_is_of_the_model_that_was_given(
    grpo: Grpo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = write(tmp_path / "dev.jsonl", [question(number) for number in range(20, 28)])
    settings: Settings = {
        "validation": [str(held_out)],
        "rewards": [{"kind": "length", "max_tokens": 4, "buffer": 4}],
        "steps": 20,
        "samples": 16,
        "micro_batch": 16,
        "max_tokens": 4,
        "learning_rate": 1e-2,
    }
    given = grpo(tmp_path / "still", **settings | {"steps": 1, "learning_rate": 1e-30})
    with killed(monkeypatch, killed_at=16, save_at=(15,)):
        grpo(tmp_path / "out", **settings)
    metrics = grpo(tmp_path / "out", **settings).result.metrics
    assert metrics["validation_reward_before"] == given.result.metrics["validation_reward"]
    assert metrics["validation_reward"] != metrics["validation_reward_before"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "has no prompts"),
        ([{**question(0), "grader": None}], r"prompts.jsonl line 1: has no grader"),
        ([question(0), {"prompt": "a", "completion": "b"}], "line 2: is plain text"),
        ([question(0) | {"messages": []}], "line 1"),
        ([question(0) | {"grader": {"name": "x"}}], "unknown grader"),
        (
            [question(0) | {"messages": [{"role": "user", "content": "word " * 200}]}],
            "all 1 prompts have 96 tokens",
        ),
    ],
)
def test_data_that_cannot_be_asked_is_refused_and_leaves_nothing(
    grpo: Grpo, tmp_path: Path, lines: list[dict[str, Any]], message: str
) -> None:
    write(tmp_path / "prompts.jsonl", lines)
    with pytest.raises(ArtifactError, match=message):
        grpo(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.run").exists()


def test_prompts_that_do_not_fit_are_left_out_and_counted(grpo: Grpo, tmp_path: Path) -> None:
    long = question(9) | {"messages": [{"role": "user", "content": "word " * 200}]}
    write(tmp_path / "prompts.jsonl", [question(0), long, question(1)])
    reporter = QuietReporter()
    grpo(tmp_path / "out", reporter, steps=1)
    assert "prompts: 1 prompts of 96 tokens or more are left out" in reporter.warnings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 1}, "samples"),
        ({"max_tokens": 97}, "above seq_len"),
        ({"warmup_steps": 7}, "above steps"),
        ({"thinking": "off", "thinking_budget": 5}, "thinking is off"),
        ({"rewards": []}, "rewards"),
        ({"rewards": ["grader", "grader"]}, "given twice"),
        ({"rewards": ["beauty"]}, "beauty"),
        ({"temperature": 0}, "temperature"),
        ({"kl": -1}, "kl"),
        ({"max_gap": math.nan}, "max_gap"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    grpo: Grpo, tmp_path: Path, change: Settings, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        grpo(tmp_path / "out", **change)
