"""Models that say what a test wants: real ones, whose head holds which token follows which."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from model.hybrid import HybridLM
from tests.model.miniatures import miniature, randomized


@torch.no_grad()
def follower(vocab_size: int, *chains: Sequence[int]) -> HybridLM:
    """A model in which the tokens of each chain follow one another with probability near 1, whatever came before.

    A token can have one follower only. What follows the last of a chain is any token.
    """
    lm = randomized(miniature("M*-", vocab_size=vocab_size, hidden_size=vocab_size))
    for name, parameter in lm.named_parameters():
        if name.endswith(("out_proj.weight", "o_proj.weight", "down_proj.weight")):
            parameter.zero_()
    lm.backbone.embeddings.weight.copy_(torch.eye(vocab_size))
    lm.backbone.norm_f.weight.fill_(vocab_size**-0.5)
    lm.lm_head.weight.normal_(generator=torch.Generator().manual_seed(0))
    followers: dict[int, int] = {}
    for chain in chains:
        for token, next_token in pairwise(chain):
            assert followers.setdefault(token, next_token) == next_token, "a token has two followers"
            lm.lm_head.weight[next_token, token] = 25.0
    return lm


def ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text, no special ones added."""
    encoded: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return encoded
