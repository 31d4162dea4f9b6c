"""Prompts are read before anything is generated: short ones of about the same length together, a long one in chunks.

Shapes: P prompts, T tokens of the longest, D hidden size.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.hybrid import HybridLM
from model.inference.diagnosis import not_finite_error
from model.inference.state import InferenceState
from model.loss import token_cross_entropy

Tokens = tuple[int, ...]

FILLER = 32
"""A prompt joins others in a pass if it is not shorter than the longest by more than this: a pass costs a small model on a
CPU about as much as reading so many tokens."""


@dataclass(frozen=True)
class Reading:
    """What was read: the last hidden state of each prompt, the state behind it, row by row, and of those that are scored
    the log-probabilities of all tokens but the first, in nats."""

    last_PD: Tensor
    state: InferenceState
    logprobs: dict[Tokens, list[float]]


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


def read(lm: HybridLM, prompts: Sequence[Tokens], *, chunk: int, scored: Sequence[Tokens] = ()) -> Reading:
    """Read prompts in one pass, or a single one in passes of `chunk` tokens. `scored`: those whose tokens' log-probabilities
    are wanted; they are computed as the training loss is, never with all logits at a time. Raises ArtifactError, naming the
    layer, if one is not finite."""
    lengths = [len(prompt) for prompt in prompts]
    ids_PT = torch.zeros(len(prompts), max(lengths), dtype=torch.long)
    for p, prompt in enumerate(prompts):
        ids_PT[p, : len(prompt)] = torch.tensor(prompt)
    ids_PT = ids_PT.to(lm.device)
    state = lm.new_state(len(prompts))
    logprobs: dict[Tokens, list[float]] = {prompt: [] for prompt in scored}
    step = chunk if len(prompts) == 1 else max(lengths)
    for start in range(0, max(lengths), step):
        counts = [min(length - start, step) for length in lengths]
        hidden_PTD = lm.hidden_states(ids_PT[:, start : start + step], state=state, counts=counts)
        for prompt in scored:
            p = prompts.index(prompt)
            following_T = ids_PT[p, start + 1 : start + step + 1][: lengths[p] - start - 1]
            if len(following_T):
                losses = token_cross_entropy(
                    hidden_PTD[p, : len(following_T)], lm.lm_head.weight, following_T
                )
                logprobs[prompt] += (-losses.per_token).tolist()
    for prompt, values in logprobs.items():
        if not all(map(math.isfinite, values)):
            raise not_finite_error(lm, prompt)
    last_P = torch.tensor(counts, device=lm.device) - 1
    last_PD = hidden_PTD[torch.arange(len(prompts), device=lm.device), last_P]
    return Reading(last_PD, state, logprobs)
