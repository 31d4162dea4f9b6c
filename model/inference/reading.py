"""Prompts are read before anything is generated: short ones of about the same length together, a long one in chunks.

Shapes: P prompts, T tokens of the longest, D hidden size.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.hybrid import HybridLM
from model.inference.diagnosis import not_finite_error
from model.inference.sampling import LikelyTokens, likeliest
from model.inference.state import InferenceState
from model.logprobs import linear_log_softmax
from model.loss import token_chunks, token_cross_entropy

Tokens = tuple[int, ...]

FILLER = 32
"""A prompt joins others in a pass if it is not shorter than the longest by more than this: a pass costs a small model on a
CPU about as much as reading so many tokens."""


@dataclass(frozen=True)
class Reading:
    """What was read: the last hidden state of each prompt, the state behind it, row by row, and of those that are scored
    the log-probabilities of all tokens but the first, in nats, and the likeliest tokens in the place of each."""

    last_PD: Tensor
    state: InferenceState
    logprobs: dict[Tokens, list[float]]
    likely: dict[Tokens, list[LikelyTokens]]


def passes(prompts: Sequence[Tokens], tokens: int) -> Iterator[list[Tokens]]:
    """Prompts that are read together, about `tokens` of them at most, filler included; the longest first."""
    together: list[Tokens] = []
    for prompt in sorted(prompts, key=lambda prompt: (-len(prompt), prompt)):
        longest = len(together[0]) if together else len(prompt)
        if longest - len(prompt) > FILLER or longest * (len(together) + 1) > tokens:
            if together:
                yield together
            together = []
        together.append(prompt)
    if together:
        yield together


def read(
    lm: HybridLM, prompts: Sequence[Tokens], *, chunk: int, scored: Mapping[Tokens, int] | None = None
) -> Reading:
    """Read prompts in one pass, or a single one in passes of `chunk` tokens. `scored`: those whose tokens' log-probabilities
    are wanted, and how many of the likeliest tokens with them; they are never computed with all logits at a time. Raises
    ArtifactError, naming the layer, if one is not finite."""
    scored = scored or {}
    lengths = [len(prompt) for prompt in prompts]
    ids_PT = torch.zeros(len(prompts), max(lengths), dtype=torch.long)
    for p, prompt in enumerate(prompts):
        ids_PT[p, : len(prompt)] = torch.tensor(prompt)
    ids_PT = ids_PT.to(lm.device)
    state = lm.new_state(len(prompts))
    logprobs: dict[Tokens, list[float]] = {prompt: [] for prompt in scored}
    likely: dict[Tokens, list[LikelyTokens]] = {prompt: [] for prompt in scored}
    step = chunk if len(prompts) == 1 else max(lengths)
    for start in range(0, max(lengths), step):
        counts = [min(length - start, step) for length in lengths]
        hidden_PTD = lm.hidden_states(ids_PT[:, start : start + step], state=state, counts=counts)
        for prompt, count in scored.items():
            p = prompts.index(prompt)
            following_T = ids_PT[p, start + 1 : start + step + 1][: lengths[p] - start - 1]
            if len(following_T):
                values, told = _scores(lm, hidden_PTD[p, : len(following_T)], following_T, count)
                logprobs[prompt] += values
                likely[prompt] += told
    for prompt, values in logprobs.items():
        if not all(map(math.isfinite, values)):
            raise not_finite_error(lm, prompt)
    last_P = torch.tensor(counts, device=lm.device) - 1
    last_PD = hidden_PTD[torch.arange(len(prompts), device=lm.device), last_P]
    return Reading(last_PD, state, logprobs, likely)


def _scores(
    lm: HybridLM, hidden_TD: Tensor, following_T: Tensor, count: int
) -> tuple[list[float], list[LikelyTokens]]:
    """Log-probabilities of the tokens that follow: as the training loss computes them, or, where likeliest tokens are told
    too, from the same numbers as theirs, so that it can be seen whether a token is the likeliest."""
    weight_VD = lm.lm_head.weight
    if count == 0:
        per_token_T = token_cross_entropy(hidden_TD, weight_VD, following_T).per_token
        return (-per_token_T).tolist(), [()] * len(following_T)
    values: list[float] = []
    likely: list[LikelyTokens] = []
    for chunk in token_chunks(len(following_T), len(weight_VD)):
        logprob_nV = linear_log_softmax(hidden_TD[chunk], weight_VD, 1.0)
        values += logprob_nV.gather(1, following_T[chunk, None])[:, 0].tolist()
        likely += likeliest(logprob_nV, [count] * len(logprob_nV))
    return values, likely
