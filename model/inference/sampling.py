"""From logits to tokens: greedy, temperature, top-k and top-p, each row by its own rule and its own random numbers.

A draw is a pure function of the request's seed and the token's position, so a request's sample does not depend on what
else is in the batch, and a request that leaves and comes back goes on as if it had stayed.

Shapes: B batch rows, R the rows among them that are drawn together, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.errors import UsageError


@dataclass(frozen=True)
class SamplingParams:
    """How a request's tokens are chosen.

    temperature: 0 takes the most probable token, 1 the model's own distribution. top_k: only the k most probable
    tokens, 0 for all. top_p: after top_k, only the most probable tokens whose probabilities first add up to top_p.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(
                f"temperature {self.temperature} is negative or not finite", remedy="give 0 or more"
            )
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p {self.top_p} is not in (0, 1]", remedy="give 1 to keep all tokens")
        if self.top_k < 0:
            raise UsageError(f"top_k {self.top_k} is negative", remedy="give 0 to keep all tokens")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def filters(self) -> bool:
        """Some tokens are excluded, so that they have to be sorted."""
        return self.top_k > 0 or self.top_p < 1


_LOOKED_AT = 128
"""So many of the most probable tokens nearly always hold what top-p keeps; eight times as many if they do not."""

_ROUNDING = 1e-6
"""Probabilities that add up to top_p less this have reached it."""

GREEDY = SamplingParams(temperature=0.0)


LikelyTokens = tuple[tuple[int, float], ...]
"""The likeliest tokens of a position with their log-probabilities in nats, the likeliest first."""


@dataclass(frozen=True)
class Sampled:
    """`token_B` int64, and `logprob_B`: its log-probability in nats under the model (before temperature and filters).

    `finite_B`: False where a row's logits hold a NaN or an infinity, and its token means nothing. `likely`: of each row as
    many of the model's likeliest tokens as were asked for.
    """

    token_B: Tensor
    logprob_B: Tensor
    finite_B: Tensor
    likely: list[LikelyTokens]


def sample(
    logits_BV: Tensor,
    params: Sequence[SamplingParams],
    positions: Sequence[int],
    forced: Sequence[int | None] = (),
    likely: Sequence[int] = (),
) -> Sampled:
    """One token a row. `positions[b]` is how many tokens row b's request has generated before this one; `forced[b]`, if
    given, is the token that is taken in place of a drawn one; `likely[b]`, how many of the likeliest tokens to tell."""
    token_B = logits_BV.argmax(dim=1)
    for filters in (False, True):
        rows = [row for row, rule in enumerate(params) if not rule.greedy and rule.filters == filters]
        if rows:
            chosen = [params[row] for row in rows]
            draws = [uniform(params[row].seed, positions[row]) for row in rows]
            token_B[rows] = (_draw_filtered if filters else _draw)(logits_BV[rows], chosen, draws)
    for row, token in enumerate(forced):
        if token is not None:
            token_B[row] = token
    logprob_BV = logits_BV.log_softmax(1)
    logprob_B = logprob_BV.gather(1, token_B[:, None])[:, 0]
    told = likeliest(logprob_BV, likely or [0] * len(params))
    return Sampled(token_B, logprob_B, logprob_B.isfinite(), told)


def likeliest(logprob_BV: Tensor, counts: Sequence[int]) -> list[LikelyTokens]:
    """The `counts[b]` likeliest tokens of each row, of all tokens if there are not so many."""
    most = min(max(counts, default=0), logprob_BV.shape[1])
    if most == 0:
        return [()] * len(counts)
    value_BK, id_BK = logprob_BV.topk(most, dim=1)
    pairs = zip(id_BK.tolist(), value_BK.tolist(), counts, strict=True)
    return [tuple(zip(ids[:count], values[:count], strict=True)) for ids, values, count in pairs]


def _draw(logits_RV: Tensor, params: Sequence[SamplingParams], draws: Sequence[float]) -> Tensor:
    """[R] tokens of the whole distribution."""
    return _invert(_tempered(logits_RV, params).softmax(1), draws)


def _draw_filtered(logits_RV: Tensor, params: Sequence[SamplingParams], draws: Sequence[float]) -> Tensor:
    """[R] tokens of those that top-k and top-p keep. As many of the most probable ones are looked at as a row needs, for
    sorting a whole vocabulary takes longer than the network of a small model."""
    tempered_RV = _tempered(logits_RV, params)
    total_R1 = tempered_RV.logsumexp(1, keepdim=True)
    vocab = logits_RV.shape[1]
    token_R = torch.empty(len(params), dtype=torch.long, device=logits_RV.device)
    pending = list(range(len(params)))
    looked_at = _LOOKED_AT
    while pending:
        looked_at = min(looked_at, vocab)
        value_RK, id_RK = tempered_RV[pending].topk(looked_at, dim=1)
        probability_RK = (value_RK - total_R1[pending]).exp()
        kept_RK, complete_R = _kept(probability_RK, [params[row] for row in pending], vocab)
        index_R = _invert(probability_RK * kept_RK, [draws[row] for row in pending])
        token_R[pending] = id_RK.gather(1, index_R[:, None])[:, 0]
        pending = [row for row, complete in zip(pending, complete_R.tolist(), strict=True) if not complete]
        looked_at *= 8
    return token_R


def _kept(probability_RK: Tensor, params: Sequence[SamplingParams], vocab: int) -> tuple[Tensor, Tensor]:
    """Of the K most probable tokens in order: which ones a rule keeps, bool [R, K], and whether it keeps no others, [R]."""
    device, looked_at = probability_RK.device, probability_RK.shape[1]
    top_k_R1 = torch.tensor([[rule.top_k or vocab] for rule in params], device=device)
    top_p_R1 = torch.tensor(
        [[rule.top_p if rule.top_p < 1 else math.inf] for rule in params], dtype=torch.float64, device=device
    )
    in_top_k_RK = torch.arange(looked_at, device=device) < top_k_R1
    cumulative_RK = (probability_RK * in_top_k_RK).cumsum(1, dtype=torch.float64)
    mass_R1 = torch.where(top_k_R1 < vocab, cumulative_RK[:, -1:], 1.0)  # what top_p is a share of
    before_RK = F.pad(cumulative_RK[:, :-1], (1, 0))
    kept_RK = in_top_k_RK & (before_RK < top_p_R1 * mass_R1 - _ROUNDING)
    kept_RK[:, 0] = True
    complete_R = (
        (looked_at == vocab) | (top_k_R1[:, 0] <= looked_at) | ~kept_RK[:, -1] & (top_k_R1[:, 0] >= vocab)
    )
    return kept_RK, complete_R


def _tempered(logits_RV: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    return logits_RV / logits_RV.new_tensor([[rule.temperature] for rule in params])


def _invert(probability_RV: Tensor, draws: Sequence[float]) -> Tensor:
    """[R] indices by inversion of the cumulative distribution, in float64: its last steps are as small as 1 / V."""
    cumulative_RV = probability_RV.cumsum(1, dtype=torch.float64)
    draw_R1 = cumulative_RV.new_tensor([[draw] for draw in draws])
    index_R1 = torch.searchsorted(cumulative_RV, draw_R1 * cumulative_RV[:, -1:], right=True)
    return index_R1.clamp_(max=cumulative_RV.shape[1] - 1)[:, 0]


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that depends on seed and position alone.

    Source: the SplitMix64 generator (Steele, Lea, Flood 2014), which can be entered at any position.
    """
    return (_mix(_mix(seed) + (position + 1) * _GOLDEN_GAMMA) >> 11) * 2.0**-53


_GOLDEN_GAMMA = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def _mix(value: int) -> int:
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
