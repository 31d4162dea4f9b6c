"""Bandits whose optimum is known: one prompt, one token as the answer, a reward for each token."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.episodes.play import Episode, Task
from evals.episodes.tokens import prompt_ids
from model import load
from model.tokenizer import load_tokenizer
from stages.common.rewards.rewards import Reward, Rewards
from tests.stages.grpo.conftest import Grpo, Settings, question, write


def reward_by_token(monkeypatch: pytest.MonkeyPatch, value: Callable[[int], float]) -> None:
    def of(_: Rewards, episodes: Sequence[Episode]) -> list[Reward]:
        return [Reward(value(episode.ids[-1]), {}) for episode in episodes]

    monkeypatch.setattr(Rewards, "of", of)


@pytest.fixture
def bandit(settings: Settings, tmp_path: Path) -> Settings:
    write(tmp_path / "prompts.jsonl", [question(0)])
    return {
        "max_tokens": 1,
        "prompts": 1,
        "samples": 64,
        "seq_len": 256,
        "micro_batch": 16,
        "weight_decay": 0.0,
    }


def probabilities(directory: Path) -> torch.Tensor:
    lm, tokenizer = load(directory), load_tokenizer(directory)
    ids = prompt_ids(tokenizer, Task(question(0)["messages"], None, False, None, "", ""))
    with torch.no_grad():
        return lm(torch.tensor([ids])).logits[0, -1].softmax(0)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 24, "learning_rate": 6e-3},
        pytest.param({"baseline": "leave-one-out", "normalize": False}, marks=pytest.mark.slow),
        pytest.param({"updates": 2, "aggregation": "sequence"}, marks=pytest.mark.slow),
    ],
)
def test_the_best_arm_is_found(
    grpo: Grpo, bandit: Settings, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Any
) -> None:
    """Arm 7 of 8 pays most; each arm is a residue of the token's number, so that each is sampled from the beginning."""
    reward_by_token(monkeypatch, lambda token: (token % 8) / 7)
    grpo(tmp_path / "out", **bandit | {"steps": 40, "learning_rate": 4e-3} | changes)
    arms = torch.arange(400) % 8
    before, after = (probabilities(path)[arms == 7].sum() for path in (model, tmp_path / "out"))
    assert before < 0.3
    assert after > 0.95


@pytest.mark.slow
def test_with_a_kl_term_the_policy_ends_where_theory_says(
    grpo: Grpo, bandit: Settings, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optimum of E[r] - kl KL(policy || reference) is reference x exp(r / kl): odds rise by exp(1) for r / kl = 1."""
    reward_by_token(monkeypatch, lambda token: 0.5 * (token % 2))
    changes = {"steps": 40, "samples": 160, "learning_rate": 1e-3, "kl": 0.5, "normalize": False}
    grpo(tmp_path / "out", **bandit | changes)
    odd = torch.arange(400) % 2 == 1
    before, after = probabilities(model), probabilities(tmp_path / "out")
    rise = torch.logit(after[odd].sum()) - torch.logit(before[odd].sum())
    assert float(rise) == pytest.approx(1.0, abs=0.15)
    # and nothing else moves: within the arms probabilities keep their proportions
    kept = before[odd] / before[odd].sum()
    now = after[odd] / after[odd].sum()
    assert float((kept - now).abs().sum()) < 0.1
