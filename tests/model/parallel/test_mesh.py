"""Training steps of a model on a mesh against those of a whole one, in float64, and its state on other meshes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.errors import UsageError
from model.hybrid import HybridLM
from model.loss import next_token_labels, token_cross_entropy
from model.parallel.mesh import Mesh
from model.parallel.tensor import splits
from stages.common.training.checkpoint import Counters, StateWriter, load_state
from stages.common.training.optimizer import build_optimizer
from stages.common.training.settings import OptimizerSettings
from stages.common.training.team import ManyRanks, OneProcess, Team
from tests.model.miniatures import miniature, random_ids, randomized
from tests.ranks import run_ranks

CONFIG = miniature("M*-M", hidden_size=38, intermediate_size=60)
"""Of a width that four ranks do not share evenly."""

ROWS, LENGTH, STEPS, CLIP = 6, 24, 3, 0.1
TOLERANCE = 1e-9
MESHES = [(2, 1, 1), (4, 1, 1), (2, 2, 1), (4, 4, 1), (2, 1, 2), (4, 2, 2), (4, 1, 2), (4, 2, 1)]
"""Ranks, context, tensor."""


def train(lm: HybridLM, team: Team, optimizer: torch.optim.Optimizer, steps: int = STEPS) -> list[float]:
    """Loss and gradient norm of each step."""
    figures = []
    for step in range(steps):
        ids = random_ids(CONFIG, ROWS, LENGTH, seed=step)
        documents = (random_ids(CONFIG, ROWS, LENGTH, seed=step + 50) < 12).long().cumsum(1)
        labels = next_token_labels(ids, documents)
        count = int((labels >= 0).sum())
        total = 0.0
        for row, share in team.mine(range(ROWS)):
            parts = [each[row : row + 1] for each in (ids, documents, labels)]
            if team.mesh and team.mesh.context:
                parts = [team.mesh.context.cut(part) for part in parts]
            hidden = lm.hidden_states(parts[0], parts[1])
            loss = token_cross_entropy(hidden, lm.lm_head.weight, parts[2]).total * share
            (loss / count).backward()
            total += float(loss.detach())
        norm = team.clip_gradients(lm, CLIP)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2
        optimizer.step()
        optimizer.zero_grad()
        figures += [*team.add([total]), norm]
    return figures


def trained() -> tuple[dict[str, Tensor], list[float]]:
    lm = randomized(CONFIG, dtype=torch.float64)
    figures = train(lm, OneProcess(), build_optimizer(lm, OptimizerSettings()))
    return {name: p.detach() for name, p in lm.named_parameters()}, figures


def spread(context: int, tensor: int, seed: int = 0) -> tuple[HybridLM, ManyRanks, torch.optim.Optimizer]:
    lm = randomized(CONFIG, seed=seed, dtype=torch.float64)
    mesh = Mesh.of("cpu", context=context, tensor=tensor)
    mesh.spread(lm)
    return lm, ManyRanks(mesh), build_optimizer(lm, OptimizerSettings())


def errors_on(context: int, tensor: int, expected: dict[str, Tensor], figures: list[float]) -> float:
    lm, team, optimizer = spread(context, tensor)
    mine = train(lm, team, optimizer)
    errors = [abs(a / b - 1) for a, b in zip(mine, figures, strict=True)]
    for name, whole in team.mesh.whole_parameters(lm):
        errors.append(float((whole - expected[name]).norm() / expected[name].norm()))
    return max(errors)


@pytest.fixture(scope="module")
def whole() -> tuple[dict[str, Tensor], list[float]]:
    return trained()


@pytest.mark.parametrize(("ranks", "context", "tensor"), MESHES)
def test_steps_are_those_of_one_process(
    ranks: int, context: int, tensor: int, whole: tuple[dict[str, Tensor], list[float]]
) -> None:
    """Losses, gradient norms and parameters; four rows in six make ranks that have none at times."""
    assert max(run_ranks(ranks, errors_on, context, tensor, *whole)) < TOLERANCE


def save_on(context: int, tensor: int, folder: Path, asynchronous: bool) -> None:
    lm, team, optimizer = spread(context, tensor)
    writer = StateWriter(folder, lm, optimizer, team.mesh, asynchronous=asynchronous)
    train(lm, team, optimizer, 1)
    writer.save(Counters(1, 10, 0.5))
    if asynchronous:
        train(lm, team, optimizer, 1)  # what is being written does not change any more
    writer.finish()


def continue_on(context: int, tensor: int, folder: Path) -> dict[str, Tensor]:
    """The state's parameters and moments, whole, read into another model."""
    lm, team, optimizer = spread(context, tensor, seed=1)
    assert load_state(folder, lm, optimizer, team.mesh) == Counters(1, 10, 0.5)
    cuts = splits(CONFIG)
    moments = {
        f"{name} squared": team.mesh.whole(optimizer.state[parameter]["exp_avg_sq"], cuts.get(name))
        for name, parameter in sorted(lm.named_parameters())
    }
    return dict(team.mesh.whole_parameters(lm)) | moments


def state_of_one_process(folder: Path) -> dict[str, Tensor]:
    lm = randomized(CONFIG, seed=2, dtype=torch.float64)
    optimizer = build_optimizer(lm, OptimizerSettings())
    assert load_state(folder, lm, optimizer) == Counters(1, 10, 0.5)
    named = dict(lm.named_parameters())
    moments = {f"{name} squared": optimizer.state[p]["exp_avg_sq"] for name, p in named.items()}
    return {name: p.detach() for name, p in named.items()} | moments


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("ranks", "context", "tensor"), [(2, 1, 1), (4, 1, 2)])
def test_any_mesh_reads_the_state_of_any_other(
    ranks: int, context: int, tensor: int, asynchronous: bool, tmp_path: Path
) -> None:
    run_ranks(ranks, save_on, context, tensor, tmp_path, asynchronous)
    expected = state_of_one_process(tmp_path)
    for other in ((3, 1, 1), (4, 2, 2)):
        for read in run_ranks(other[0], continue_on, *other[1:], tmp_path):
            assert read.keys() == expected.keys()
            assert all(torch.equal(read[name], expected[name]) for name in expected)


def test_the_state_of_one_process_is_read_on_a_mesh(tmp_path: Path) -> None:
    lm = randomized(CONFIG, dtype=torch.float64)
    optimizer = build_optimizer(lm, OptimizerSettings())
    train(lm, OneProcess(), optimizer, 1)
    StateWriter(tmp_path, lm, optimizer).save(Counters(1, 10, 0.5))
    expected = state_of_one_process(tmp_path)
    for read in run_ranks(4, continue_on, 2, 2, tmp_path):
        assert all(torch.equal(read[name], expected[name]) for name in expected)


def test_ranks_that_make_no_mesh_are_refused() -> None:
    with pytest.raises(UsageError, match="3 ranks are no whole number of groups of 2 x 1"):
        run_ranks(3, spread, 2, 1)
