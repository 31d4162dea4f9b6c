"""Mixers cut over ranks against whole ones, in float64."""

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from model.config import HybridConfig
from model.errors import UsageError
from model.loss import next_token_labels, token_cross_entropy
from model.parallel.tensor import Split, TensorRanks, split_mixers, splits
from tests.model.miniatures import MINIATURES, random_ids, randomized
from tests.ranks import run_ranks

TOLERANCE = 1e-9


def cut(config: HybridConfig) -> float:
    """The largest relative error of hidden states and of every gradient, put together again."""
    ranks = TensorRanks(dist.group.WORLD)
    lm = randomized(config, dtype=torch.float64)
    ids = random_ids(config, 2, 41)
    documents = torch.repeat_interleave(torch.arange(3), torch.tensor([9, 20, 12])).expand(2, -1)
    labels = next_token_labels(ids, documents)

    def trace() -> tuple[Tensor, dict[str, Tensor]]:
        hidden = lm.hidden_states(ids, documents)
        token_cross_entropy(hidden, lm.lm_head.weight, labels).total.backward()
        gradients = {name: p.grad.clone() for name, p in lm.named_parameters() if p.grad is not None}
        lm.zero_grad()
        return hidden.detach(), gradients

    hidden, gradients = trace()
    split_mixers(lm, ranks)
    mine, parts = trace()
    errors = [(mine - hidden).norm() / hidden.norm()]
    cuts = splits(config)
    for name, part in parts.items():
        if name in cuts:
            of_ranks = [torch.empty_like(part) for _ in range(ranks.size)]
            dist.all_gather(of_ranks, part.contiguous())
            part = cuts[name].whole(of_ranks)
        errors.append((part - gradients[name]).norm() / gradients[name].norm())
    return max(map(float, errors))


@pytest.mark.parametrize("name", ["pure-mamba", "pure-attention", "nano2-12b-pattern", "eight-groups-conv-3"])
def test_parts_make_the_whole(name: str) -> None:
    assert max(run_ranks(2, cut, MINIATURES[name])) < TOLERANCE


def test_a_split_is_undone() -> None:
    split = Split(1, (4, 8, 2))
    whole = torch.arange(28.0).view(2, 14)
    assert torch.equal(split.whole([split.part(whole, rank, 2) for rank in range(2)]), whole)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("width-unlike-expand", "n_groups is 3, num_attention_heads is 5, num_key_value_heads is 1"),
        ("biases", "projections with biases are not shared"),
    ],
)
def test_what_has_no_equal_parts_is_refused(name: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        run_ranks(2, cut, MINIATURES[name])
