"""A saved state gives back what it was made of."""

from pathlib import Path

import torch

from stages.common.training.checkpoint import Counters, StateWriter, load_state
from stages.common.training.optimizer import build_optimizer
from stages.common.training.settings import OptimizerSettings
from tests.model.miniatures import miniature, randomized


def test_a_state_from_before_the_first_step_continues_as_a_fresh_start(tmp_path: Path) -> None:
    def trained(saved: bool) -> list[torch.Tensor]:
        lm = randomized(miniature("M*"))
        optimizer = build_optimizer(lm, OptimizerSettings())
        if saved:
            StateWriter(tmp_path, lm, optimizer).save(Counters())
            lm = randomized(miniature("M*"), seed=1)
            optimizer = build_optimizer(lm, OptimizerSettings())
            assert load_state(tmp_path, lm, optimizer) == Counters()
        for _ in range(2):
            lm(torch.arange(8).view(1, 8)).logits.square().mean().backward()
            for group in optimizer.param_groups:
                group["lr"] = 1e-2
            optimizer.step()
            optimizer.zero_grad()
        return list(lm.parameters())

    assert all(map(torch.equal, trained(saved=True), trained(saved=False)))
