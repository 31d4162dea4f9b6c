"""What is planned that a rank holds, against what it is left with."""

from itertools import pairwise

import pytest

from model.errors import UsageError
from model.parallel.holdings import holdings
from model.parallel.mesh import Mesh
from model.parallel.shape import MeshShape
from model.parallel.shards import local
from tests.model.miniatures import MINIATURES, randomized
from tests.ranks import run_ranks

NAMES = ("nano2-12b-pattern", "eight-groups-conv-3", "pure-attention")


def _held(context: int, tensor: int) -> list[int]:
    """Parameters of each miniature that lie on this rank."""
    found = []
    for name in NAMES:
        lm = randomized(MINIATURES[name])
        Mesh.of("cpu", context=context, tensor=tensor).spread(lm)
        found.append(sum(local(parameter).numel() for parameter in lm.parameters()))
    return found


@pytest.mark.parametrize(
    ("ranks", "context", "tensor"), [(2, 1, 1), (2, 2, 1), (2, 1, 2), (4, 2, 2), (4, 1, 1), (4, 1, 2)]
)
def test_every_rank_holds_what_is_planned(ranks: int, context: int, tensor: int) -> None:
    mesh = MeshShape.of(ranks, context=context, tensor=tensor)
    planned = [holdings(MINIATURES[name], mesh).held for name in NAMES]
    assert run_ranks(ranks, _held, context, tensor) == [planned] * ranks


def test_a_lone_rank_holds_it_all() -> None:
    lm = randomized(MINIATURES["biases"])
    assert holdings(lm.config, MeshShape()).held == sum(p.numel() for p in lm.parameters())


def test_more_ranks_hold_less_each() -> None:
    config = MINIATURES["eight-groups-conv-3"]
    held = [holdings(config, MeshShape(data, 1, tensor)) for data, tensor in [(1, 1), (2, 1), (2, 2), (4, 2)]]
    assert all(more.held > fewer.held for more, fewer in pairwise(held))
    assert held[0].block == held[1].block == 2 * held[2].block == 2 * held[3].block  # gathered by data ranks


def test_what_cannot_be_arranged_is_refused_as_it_is_in_a_run() -> None:
    with pytest.raises(UsageError, match="3 ranks are no whole number of groups of 2 x 1") as planned:
        MeshShape.of(3, context=2)
    with pytest.raises(UsageError) as run:
        run_ranks(3, lambda: Mesh.of("cpu", context=2))
    assert (str(run.value), run.value.remedy) == (str(planned.value), planned.value.remedy)

    uneven = MINIATURES["width-unlike-expand"]
    with pytest.raises(UsageError, match="num_attention_heads is 5") as planned:
        holdings(uneven, MeshShape(tensor=2))
    with pytest.raises(UsageError) as run:
        run_ranks(2, lambda: Mesh.of("cpu", tensor=2).spread(randomized(uneven)))
    assert (str(run.value), run.value.remedy) == (str(planned.value), planned.value.remedy)
