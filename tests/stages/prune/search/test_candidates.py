import pytest

from model.config import HybridConfig
from model.counting import count_parameters
from model.errors import PlanRefusedError
from model.hybrid import HybridLM
from stages.prune.kept import Shape
from stages.prune.search.blocks import Blocks, estimate
from stages.prune.search.budget import Budget
from stages.prune.search.candidates import Candidates
from stages.prune.search.space import grid

WHOLE = HybridConfig.preset("nano2-12b")
TABLE_10 = [
    (Shape(56, 4480, 17920, 112, 80, 40), 8.92),
    (Shape(56, 4480, 15680, 128, 80, 40), 8.89),
    (Shape(56, 4800, 14400, 120, 80, 40), 8.97),
]
"""Shapes and billions of parameters of the report's three candidates."""


def blocks_at(depth: int) -> Blocks:
    return estimate(Blocks.of(WHOLE.pattern), Blocks(min(27, depth - 29), 25, 4), depth)


def budget(gib: float = 19.66, parameters: int | None = None) -> Budget:
    return Budget(parameters, int(gib * 2**30), 131072, 1)


def search(given: list[Shape], limits: Budget, layers: tuple[int, ...] = (56,)) -> Candidates:
    axes = {
        "layers": layers,
        "hidden": (4480, 4800, 5120),
        "ffn": range(13440, 20481, 320),
        "mamba_heads": (112, 120, 128),
        "mamba_head_dim": (),
        "attention_heads": (),
    }
    return Candidates.of(grid(axes, WHOLE), given, WHOLE, blocks_at, limits)


def test_table_10_fits_the_report_s_budget_with_its_counts() -> None:
    found = search([shape for shape, _ in TABLE_10], budget())
    found.check()
    for candidate, (shape, billions) in zip(found.given, TABLE_10, strict=True):
        assert candidate.shape == shape
        assert round(candidate.footprint.parameters / 1e9, 2) == billions
        assert candidate.footprint.total_bytes / 2**30 < 19.66
        assert candidate.rank > 3  # the rule of most memory first would not have picked it


def test_counts_are_those_of_the_tensors() -> None:
    import torch

    candidate = search([TABLE_10[1][0]], budget()).given[0]
    with torch.device("meta"):
        lm = HybridLM(candidate.applied(WHOLE), initialize=False)
    assert sum(p.numel() for p in lm.parameters()) == candidate.footprint.parameters
    assert candidate.footprint.parameters == count_parameters(HybridConfig.preset("nano2-9b")).total


def test_the_largest_that_fit_come_first_at_each_depth() -> None:
    found = search([], budget(), layers=(54, 56))
    for depth in (54, 56):
        of_depth = found.at(depth)
        sizes = [candidate.footprint.total_bytes for candidate in of_depth]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] <= 19.66 * 2**30
        assert [candidate.rank for candidate in of_depth] == list(range(1, len(of_depth) + 1))
    # those that do not fit have no rank, and are all larger
    beyond = [candidate for candidate in found.ranked if not candidate.rank]
    assert len(beyond) > 100
    assert min(each.footprint.total_bytes for each in beyond) > 19.66 * 2**30
    assert len(found.at(54)) > len(found.at(56))


def test_memory_is_the_sum_of_its_kinds() -> None:
    """By hand, for the 9B: section 5.2's arithmetic with float32 SSM states."""
    footprint = search([TABLE_10[1][0]], budget()).given[0].footprint
    assert footprint.weights_bytes == 2 * 8_888_227_328
    assert footprint.kv_bytes == 2 * 4 * 131072 * 8 * 128 * 2
    assert footprint.ssm_bytes == 27 * 128 * 80 * 128 * 4
    assert footprint.conv_bytes == 27 * (128 * 80 + 2 * 8 * 128) * 3 * 2
    assert 18.6 < footprint.total_bytes / 2**30 < 18.8


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        (
            budget(15.0),
            r"no shape meets the budget; the closest \(56 layers, hidden 4480, FFN 13440, 112 Mamba heads\) "
            r"takes 16\.8\d GiB at 131072 tokens, 1\.8\d GiB more than --memory 15\.00 GiB",
        ),
        (budget(parameters=7_000_000_000), r"has 7,\d{3},\d{3},\d{3} parameters, \d+,\d{3},\d{3} more than"),
    ],
)
def test_a_budget_nobody_meets_names_the_closest(limits: Budget, complaint: str) -> None:
    with pytest.raises(PlanRefusedError, match=complaint):
        search([], limits).check()


def test_a_shape_given_that_is_too_large_is_refused_though_others_fit() -> None:
    with pytest.raises(PlanRefusedError, match=r"a shape that was given .*FFN 20480.* takes"):
        search([Shape(56, 5120, 20480, 128, 80, 40)], budget()).check()
