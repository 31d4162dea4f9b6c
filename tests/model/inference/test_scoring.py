"""Continuation scores against one full forward pass each, for every way of batching them."""

import math
import random
from typing import Any

import pytest
import torch

import model.inference.scoring as scoring
from model.errors import ArtifactError
from model.hybrid import HybridLM
from model.inference.scoring import Score, score_continuations
from tests.model.miniatures import MINIATURES, randomized

Pair = tuple[list[int], list[int]]


def pairs(vocab: int, seed: int = 0) -> list[Pair]:
    """Contexts below and above the length from which they are read once, with one to five continuations each, some of
    one token, some equal, some a prefix of another."""
    draw = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(vocab) for _ in range(count)]

    made: list[Pair] = []
    for length in (1, 5, 17, 40, 47, 48, 60, 60, 60, 110):
        context = tokens(length)
        continuations = [tokens(draw.choice((1, 1, 2, 6))) for _ in range(draw.randint(1, 5))]
        continuations += [continuations[0], [*continuations[0], *tokens(2)], [*continuations[-1][:-1], 3]]
        made += [(context, continuation) for continuation in continuations]
    draw.shuffle(made)
    return made


@torch.no_grad()
def one_by_one(lm: HybridLM, pair: Pair) -> Score:
    context, continuation = pair
    logprobs = lm(torch.tensor([context + continuation])).logits[0, len(context) - 1 : -1].log_softmax(-1)
    total = sum(logprobs[place, token].item() for place, token in enumerate(continuation))
    return Score(total, logprobs.argmax(-1).tolist() == continuation)


def record_reading(lm: HybridLM, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each forward pass reads, from now on."""
    read: list[int] = []
    forward = lm.hidden_states

    def hidden_states(ids: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        read.append(ids.numel())
        return forward(ids, *rest, **named)

    monkeypatch.setattr(lm, "hidden_states", hidden_states)
    return read


@pytest.mark.parametrize("name", ["pure-mamba", "pure-attention", "width-unlike-expand"])
@pytest.mark.parametrize("batch_tokens", [1, 300, 10_000])
@pytest.mark.parametrize("shared_context", [1, scoring.SHARED_CONTEXT, 10**6])
def test_scores_are_those_of_the_full_forward(
    name: str, batch_tokens: int, shared_context: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "SHARED_CONTEXT", shared_context)
    monkeypatch.setattr(scoring, "PACKED_ROW", 128)
    monkeypatch.setattr(scoring, "LOGIT_BYTES", 4 * 96 * 7)  # seven positions at a time
    lm = randomized(MINIATURES[name])
    asked = pairs(lm.config.vocab_size)
    done: list[int] = []
    scores = score_continuations(lm, asked, batch_tokens=batch_tokens, on_scored=done.append)
    assert sum(done) == len(asked)
    for pair, score in zip(asked, scores, strict=True):
        expected = one_by_one(lm, pair)
        assert abs(score.logprob - expected.logprob) < 1e-4
        assert score.greedy == expected.greedy


def test_greedy_continuations_are_told() -> None:
    lm = randomized(MINIATURES["width-unlike-expand"])
    context = [5, 6, 7]
    best: list[int] = []
    for _ in range(4):
        with torch.no_grad():
            best.append(int(lm(torch.tensor([context + best])).logits[0, -1].argmax()))
    scores = score_continuations(lm, [(context, best), (context, [*best[:-1], 0])], batch_tokens=100)
    assert [score.greedy for score in scores] == [True, False]


def test_letters_of_an_answer_take_one_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = randomized(MINIATURES["pure-mamba"])
    read = record_reading(lm, monkeypatch)
    score_continuations(lm, [(list(range(90)), [letter]) for letter in range(4)], batch_tokens=4096)
    assert read == [90]


def test_a_long_context_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = randomized(MINIATURES["width-unlike-expand"])
    read = record_reading(lm, monkeypatch)
    continuations = [[1, 2, 3], [4, 5, 6], [7]]
    score_continuations(lm, [(list(range(90)), c) for c in continuations], batch_tokens=4096)
    assert read == [90, 4]  # the last token of a continuation is never read


def test_logits_that_are_not_finite_name_the_layer() -> None:
    lm = randomized(MINIATURES["width-unlike-expand"])
    with torch.no_grad():
        lm.get_parameter("backbone.layers.1.mixer.up_proj.weight")[0, 0] = math.nan
    with pytest.raises(ArtifactError, match=r"layer 1 \(MLP\)"):
        score_continuations(lm, [([1, 2], [3])], batch_tokens=100)


def test_nothing_asked_is_nothing_scored() -> None:
    assert score_continuations(randomized(MINIATURES["pure-mamba"]), [], batch_tokens=100) == []
