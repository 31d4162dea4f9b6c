"""From logits to tokens: greedy, temperature, top-k and top-p, each row by its own rule and its own random numbers.

A draw is a pure function of the request's seed and the token's position, so a request's sample does not depend on what
else is in the batch, and a request that leaves and comes back goes on as if it had stayed.

Shapes: B batch rows, R the rows among them that are drawn together, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
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


GREEDY = SamplingParams(temperature=0.0)


@dataclass(frozen=True)
class Sampled:
    """`token_B` int64, and `logprob_B`: its log-probability in nats under the model (before temperature and filters).

    `finite_B`: False where a row's logits hold a NaN or an infinity, and its token means nothing.
    """

    token_B: Tensor
    logprob_B: Tensor
    finite_B: Tensor


def sample(
    logits_BV: Tensor,
    params: Sequence[SamplingParams],
    positions: Sequence[int],
    forced: Sequence[int | None] = (),
) -> Sampled:
    """One token a row. `positions[b]` is how many tokens row b's request has generated before this one; `forced[b]`, if
    given, is the token that is taken in place of a drawn one."""
    normalizer_B1 = torch.logsumexp(logits_BV, dim=1, keepdim=True)
    token_B = logits_BV.argmax(dim=1)
    for filters in (False, True):
        rows = [row for row, rule in enumerate(params) if not rule.greedy and rule.filters == filters]
        if rows:
            chosen = [params[row] for row in rows]
            draws = [uniform(params[row].seed, positions[row]) for row in rows]
            draw_R1 = torch.tensor(draws, dtype=torch.float64, device=logits_BV.device)[:, None]
            token_B[rows] = _draw(logits_BV[rows], chosen, draw_R1, filters=filters)
    for row, token in enumerate(forced):
        if token is not None:
            token_B[row] = token
    logprob_B1 = logits_BV.gather(1, token_B[:, None]) - normalizer_B1
    return Sampled(token_B, logprob_B1[:, 0], normalizer_B1[:, 0].isfinite())


def _draw(logits_RV: Tensor, params: Sequence[SamplingParams], draw_R1: Tensor, *, filters: bool) -> Tensor:
    """[R] tokens by inversion of the cumulative distribution, in float64: its last steps are as small as 1 / V."""
    temperature_R1 = draw_R1.new_tensor([rule.temperature for rule in params])[:, None]
    probability_RV = torch.softmax(logits_RV.double() / temperature_R1, dim=1)
    order_RV = None
    if filters:
        probability_RV, order_RV = probability_RV.sort(dim=1, descending=True, stable=True)
        vocab = probability_RV.shape[1]
        top_k_R1 = torch.tensor([[rule.top_k or vocab] for rule in params], device=logits_RV.device)
        probability_RV.masked_fill_(torch.arange(vocab, device=logits_RV.device) >= top_k_R1, 0.0)
        top_p_R1 = draw_R1.new_tensor([rule.top_p for rule in params])[:, None]
        before_RV = probability_RV.cumsum(1) - probability_RV
        probability_RV.masked_fill_(before_RV >= top_p_R1 * probability_RV.sum(1, keepdim=True), 0.0)
    cumulative_RV = probability_RV.cumsum(1)
    index_R1 = torch.searchsorted(cumulative_RV, draw_R1 * cumulative_RV[:, -1:], right=True)
    index_R1.clamp_(max=cumulative_RV.shape[1] - 1)
    return (index_R1 if order_RV is None else order_RV.gather(1, index_R1))[:, 0]


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
