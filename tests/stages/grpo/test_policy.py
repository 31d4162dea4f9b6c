"""What goes into the loss: the tokens that the model chose, each in its own document, with the log-probabilities of then."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from evals.episodes.play import Episode, EpisodeSettings, play
from model.hybrid import HybridLM
from model.logprobs import token_logprobs
from model.loss import IGNORED
from stages.grpo.batch import PolicyBatch, Rollout, pack
from stages.grpo.loss import policy_terms
from stages.grpo.policy import PolicyObjective, scored
from tests.evals.episodes.conftest import tokenizer, tokenizer_directory
from tests.evals.episodes.office import PLAIN, THOUGHTFUL, Office, office_model, task

__all__ = ["tokenizer", "tokenizer_directory"]

SEQ_LEN = 1024
OBJECTIVE = PolicyObjective(clip_low=0.2, clip_high=0.28, kl=0.0, temperature=1.0)


@pytest.fixture(scope="module")
def lm(tokenizer: Any) -> HybridLM:
    return office_model(tokenizer, THOUGHTFUL)


@pytest.fixture(scope="module")
def episodes(lm: HybridLM, tokenizer: Any) -> list[Episode]:
    """Of several turns, with tools, with thinking that the budget closes in some of them."""
    settings = EpisodeSettings(60, 4, thinking_budget=3, thinking_grace=1, max_length=512)
    asked = [(task(f"Note {number}", thinking=True), number) for number in range(8)]
    played = play(lm, tokenizer, _stops(tokenizer), asked, settings, sessions=Office)
    assert any(len(episode.turns) > 1 for episode in played)
    assert any(turn.forced for episode in played for turn in episode.turns)
    assert any(not turn.forced for episode in played for turn in episode.turns)
    return played


def _stops(tokenizer: Any) -> frozenset[int]:
    return frozenset({2, tokenizer.convert_tokens_to_ids("<SPECIAL_12>")})


def rollouts(episodes: Sequence[Episode]) -> list[Rollout]:
    return [Rollout(episode, advantage=0.5 - number / 4) for number, episode in enumerate(episodes)]


def packed(episodes: Sequence[Episode], seq_len: int = SEQ_LEN, aggregation: Any = "token") -> PolicyBatch:
    return pack(rollouts(episodes), seq_len, 0, aggregation)


def gap_of(lm: HybridLM, batch: PolicyBatch, **settings: Any) -> Any:
    return scored(lm, batch, **{"micro_batch": 2, "temperature": 1.0, "reference": None, **settings})


def gradient(lm: HybridLM, batch: PolicyBatch) -> list[Tensor]:
    lm.zero_grad()
    (OBJECTIVE(lm, batch).total / batch.count).backward()
    return [parameter.grad.clone() for parameter in lm.parameters() if parameter.grad is not None]


def test_the_labels_are_the_tokens_that_the_model_chose(episodes: list[Episode]) -> None:
    batch = packed(episodes)
    chosen = [token for e in episodes for token, own in zip(e.ids, e.sampled, strict=True) if own]
    assert sorted(batch.labels_BT[batch.labels_BT != IGNORED].tolist()) == sorted(chosen)
    assert batch.count == len(chosen)
    assert len(batch.input_ids_BT) < len(episodes)
    generated = sum(episode.generated_tokens for episode in episodes)
    assert len(chosen) < generated  # what the budget put in is no label


def test_trainer_and_engine_agree_on_packed_episodes_with_tools(
    lm: HybridLM, episodes: list[Episode]
) -> None:
    _, gap = gap_of(lm, packed(episodes))
    assert gap.mean < 1e-5
    assert gap.largest < 1e-4


def test_a_mean_over_tokens_or_over_episodes(lm: HybridLM, episodes: list[Episode]) -> None:
    for aggregation in ("token", "sequence"):
        batch, _ = gap_of(lm, packed(episodes, aggregation=aggregation))
        batch = replace(batch, old_logprobs_BT=batch.old_logprobs_BT - 0.1)
        value = OBJECTIVE(lm, batch).total.item() / batch.count
        ratio = torch.tensor(0.1).exp()
        losses = []
        for rollout in rollouts(episodes):
            loss = -min(ratio * rollout.advantage, ratio.clamp(0.8, 1.28) * rollout.advantage)
            losses.append((loss, sum(rollout.episode.sampled)))
        if aggregation == "token":
            expected = sum(loss * tokens for loss, tokens in losses) / sum(tokens for _, tokens in losses)
        else:
            expected = sum(loss for loss, _ in losses) / len(losses)
        assert value == pytest.approx(float(expected), rel=1e-4)


def test_packing_does_not_change_the_gradient(lm: HybridLM, episodes: list[Episode]) -> None:
    together, _ = gap_of(lm, packed(episodes))
    alone = [gap_of(lm, packed([episode], len(episode.ids)))[0] for episode in episodes]
    alone = [
        replace(batch, advantages_BT=(batch.labels_BT != IGNORED) * rollout.advantage, count=together.count)
        for batch, rollout in zip(alone, rollouts(episodes), strict=True)
    ]
    whole = gradient(lm, together)
    parts = [gradient(lm, batch) for batch in alone]
    for index, mine in enumerate(whole):
        torch.testing.assert_close(mine, sum(part[index] for part in parts), rtol=1e-3, atol=1e-5)


def _changed(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Relative change of a gradient."""
    change = sum(float((a - b).square().sum()) for a, b in zip(after, before, strict=True))
    return (change / sum(float(b.square().sum()) for b in before)) ** 0.5


def _with_everything_trained(episode: Episode, *, forced: bool, results: bool) -> Episode:
    sampled = list(episode.sampled)
    inside = [False] * len(sampled)
    for turn in episode.turns:
        inside[turn.start : turn.end] = [True] * (turn.end - turn.start)
    for place in range(episode.prompt_length, len(sampled)):
        sampled[place] |= (forced and inside[place]) or (results and not inside[place])
    return replace(episode, sampled=sampled)


@pytest.mark.parametrize(
    "mistake", ["forced tokens", "tool results", "mixed documents", "stale log-probabilities"]
)
def test_a_mistake_is_seen_in_the_gap_or_in_the_gradient(
    lm: HybridLM, episodes: list[Episode], mistake: str
) -> None:
    """What the tests above and the run's own check of the gap are there for."""
    right, gap = gap_of(lm, packed(episodes))
    if mistake == "mixed documents":
        wrong = replace(packed(episodes), document_ids_BT=right.document_ids_BT.clamp(max=0))
        assert gap_of(lm, wrong)[1].mean > 1e-4 > 100 * gap.mean
    elif mistake == "stale log-probabilities":
        stale = replace(right, old_logprobs_BT=right.old_logprobs_BT - 0.3)
        told = OBJECTIVE(lm, stale).sums
        assert told["clip_high"] > 0 == OBJECTIVE(lm, right).sums["clip_high"]
        assert _changed(gradient(lm, right), gradient(lm, stale)) > 0.1
    else:
        forced = mistake == "forced tokens"
        trained = [_with_everything_trained(e, forced=forced, results=not forced) for e in episodes]
        wrong, wrong_gap = gap_of(lm, packed(trained))
        assert wrong.count > right.count
        assert wrong_gap.mean > 1e-2 > 100 * gap.mean
        assert _changed(gradient(lm, right), gradient(lm, wrong)) > 0.05


def test_the_loss_is_about_probabilities_at_the_temperature_of_sampling(tokenizer: Any) -> None:
    """With rewards that do not depend on the answer the expected gradient is zero, at the right temperature alone."""
    lm = office_model(tokenizer, PLAIN)
    prompt = torch.tensor([tokenizer("a", add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        hidden = lm.hidden_states(prompt)[0, -1:]
        sampled = (lm.logits(hidden) / 2).softmax(1)[0]
    vocabulary = len(sampled)
    labels = torch.arange(vocabulary)
    for temperature, zero in ((2.0, True), (1.0, False)):
        logits = hidden.expand(vocabulary, -1).clone().requires_grad_()
        logprobs = token_logprobs(logits, lm.lm_head.weight, labels, temperature=temperature)[0]
        terms = policy_terms(logprobs, logprobs.detach(), torch.ones(vocabulary), clip_low=0.2, clip_high=0.2)
        (terms.loss_BT * sampled).sum().backward()
        assert logits.grad is not None
        assert (float(logits.grad.sum(0).abs().max()) < 1e-5) is zero


def test_the_gap_is_measured_at_temperature_one(lm: HybridLM, episodes: list[Episode]) -> None:
    batch, gap = gap_of(lm, packed(episodes), temperature=1.7)
    assert gap.mean < 1e-5
    kept = batch.labels_BT != IGNORED
    assert not torch.allclose(batch.old_logprobs_BT[kept], batch.engine_logprobs_BT[kept], atol=1e-2)


def test_the_reference_is_read_at_the_same_places(lm: HybridLM, episodes: list[Episode]) -> None:
    batch, _ = gap_of(lm, packed(episodes), reference=lm)
    torch.testing.assert_close(batch.reference_logprobs_BT, batch.old_logprobs_BT, rtol=0, atol=0)
    sums = replace(OBJECTIVE, kl=0.1)(lm, batch).sums
    assert sums["kl"] == pytest.approx(0, abs=1e-6)


def test_rows_of_nothing_but_padding_and_prompts_have_no_loss(lm: HybridLM, episodes: list[Episode]) -> None:
    batch = packed(episodes)
    silent = replace(
        batch, labels_BT=torch.full_like(batch.labels_BT, IGNORED), weights_BT=batch.weights_BT * 0
    )
    loss = OBJECTIVE(lm, silent)
    loss.total.backward()
    assert loss.total.item() == 0
