"""Activations that are computed again in the backward pass: the same gradients to the last bit."""

import pytest
import torch
from torch import Tensor

from model.config import ATTENTION, KINDS, MAMBA, MLP
from model.hybrid import Block, HybridLM
from model.loss import next_token_labels, token_cross_entropy
from model.parallel.mesh import Mesh
from model.parallel.shards import local
from tests.model.miniatures import MINIATURES, random_ids, randomized
from tests.ranks import run_ranks

CASES = [{letter} for letter in KINDS.values()] + [set(KINDS.values())]


def _gradients(lm: HybridLM, mesh: Mesh | None = None) -> dict[str, Tensor]:
    """Of the loss on packed rows, what this process holds of each."""
    ids_BT = random_ids(lm.config, 2, 48)
    document_ids_BT = (random_ids(lm.config, 2, 48, seed=2) < 9).long().cumsum(1)
    labels_BT = next_token_labels(ids_BT, document_ids_BT)
    if mesh is not None and mesh.context is not None:
        ids_BT, document_ids_BT, labels_BT = (
            mesh.context.cut(rows) for rows in (ids_BT, document_ids_BT, labels_BT)
        )
    lm.zero_grad()
    hidden_BTD = lm.hidden_states(ids_BT, document_ids_BT)
    head_VD = lm.lm_head.weight
    token_cross_entropy(hidden_BTD, head_VD, labels_BT).total.backward()
    return {name: local(p.grad).clone() for name, p in lm.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("compute", [None, torch.bfloat16])
@pytest.mark.parametrize("recompute", CASES, ids=lambda kinds: "".join(sorted(kinds)))
@pytest.mark.parametrize("name", ["nano2-12b-pattern", "eight-groups-conv-3", "biases"])
def test_gradients_are_the_same_bits(name: str, recompute: set[str], compute: torch.dtype | None) -> None:
    lm = randomized(MINIATURES[name])
    lm.compute_dtype = compute
    expected = _gradients(lm)
    lm.recompute = frozenset(recompute)
    found = _gradients(lm)
    assert found.keys() == expected.keys() == dict(lm.named_parameters()).keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("recompute", [set(), *CASES], ids=lambda kinds: "".join(sorted(kinds)))
def test_blocks_of_the_kind_run_twice_and_others_once(recompute: set[str]) -> None:
    lm = randomized(MINIATURES["eight-groups-conv-3"])
    lm.recompute = frozenset(recompute)
    ran: list[str] = []
    for letter, block in zip(lm.config.pattern, lm.backbone.layers, strict=True):
        assert isinstance(block, Block)
        block.norm.register_forward_hook(lambda *_, letter=letter: ran.append(letter))
    _gradients(lm)
    assert {letter: ran.count(letter) for letter in (MAMBA, ATTENTION, MLP)} == {
        letter: lm.config.pattern.count(letter) * (2 if letter in recompute else 1)
        for letter in (MAMBA, ATTENTION, MLP)
    }


@pytest.mark.parametrize(("context", "tensor"), [(2, 1), (1, 2), (1, 1)])
def test_ranks_recompute_together(context: int, tensor: int) -> None:
    def differing() -> list[str]:
        lm = randomized(MINIATURES["eight-groups-conv-3"])
        mesh = Mesh.of("cpu", context=context, tensor=tensor)
        mesh.spread(lm)
        expected = _gradients(lm, mesh)
        lm.recompute = frozenset(KINDS.values())
        found = _gradients(lm, mesh)
        return [name for name in expected if not torch.equal(found[name], expected[name])]

    assert run_ranks(2, differing) == [[], []]
