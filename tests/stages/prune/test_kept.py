"""Shapes and choices, on scores written by hand."""

import pytest
import torch

from model.errors import UsageError
from stages.prune.importance.store import Importance, Origin
from stages.prune.importance.widths import Widths
from stages.prune.kept import Shape, choose
from tests.model.miniatures import miniature
from tests.stages.prune.miniature_runs import smaller

CONFIG = miniature("M-*M-", hidden_size=6, intermediate_size=4, mamba_head_dim=3)


def _importance(layers: list[tuple[int, float]] | None = None) -> Importance:
    mamba_HP = torch.tensor([[1.0, 9, 4], [1, 1, 1], [8, 2, 0], [2, 2, 6]])
    widths = Widths(
        hidden=torch.tensor([5.0, 1, 4, 1, 3, 1]),
        neurons={1: torch.tensor([1.0, 4, 2, 3]), 4: torch.tensor([4.0, 3, 2, 1])},
        mamba={0: mamba_HP, 3: mamba_HP.flip(0)},
        attention_heads={2: torch.tensor([1.0, 2, 4, 3])},
        residual_energy=torch.ones(6, 6),
        gated_energy={0: torch.ones(4, 3), 3: torch.ones(4, 3)},
    )
    origin = Origin(model="sha256:1", data=(), seq_len=8, settings={})
    return Importance(layers or [], widths, origin)


def test_the_best_units_stay_and_ties_go_to_the_lower_number() -> None:
    kept = choose(_importance(), CONFIG, smaller(CONFIG, hidden=4, ffn=2, attention_heads=2))
    assert kept.layers == (0, 1, 2, 3, 4)
    assert kept.hidden == (0, 1, 2, 4)
    assert kept.neurons == {1: (1, 3), 4: (0, 1)}
    assert kept.attention_heads == {
        2: (1, 2)
    }  # one of each key/value head, though heads 2 and 3 are the best
    assert kept.mamba_heads == {0: (0, 1, 2, 3), 3: (0, 1, 2, 3)}
    assert kept.mamba_channels == {0: (0, 1, 2), 3: (0, 1, 2)}


def test_mamba_channels_have_one_ranking_and_heads_count_by_the_channels_that_stay() -> None:
    """Over all heads the squares of the channels are 70, 90 and 53. Without channel 2, head 0 still leads its group; in the
    other group head 2 (68) beats head 3 (8), as it does with it (68, 44)."""
    kept = choose(_importance(), CONFIG, smaller(CONFIG, mamba_head_dim=2, mamba_heads=2))
    assert kept.mamba_channels == {0: (0, 1), 3: (0, 1)}
    assert kept.mamba_heads == {0: (0, 2), 3: (1, 3)}


def test_a_channel_counts_by_the_l2_norm_over_heads() -> None:
    """Channel 0 by its norm, 1 by its largest score, 2 by its sum."""
    importance = _importance()
    importance.widths.mamba[0] = torch.tensor([[6, 8, 3.9], [6, 0, 3.9], [0, 0, 3.9], [0, 0, 3.9]])
    assert choose(importance, CONFIG, smaller(CONFIG, mamba_head_dim=1)).mamba_channels[0] == (0,)


def test_heads_count_only_by_channels_that_stay() -> None:
    importance = _importance()
    importance.widths.mamba[0] = torch.tensor([[0.0, 5, 0], [4, 0, 0], [9, 0, 0], [9, 0, 0]])
    assert choose(importance, CONFIG, smaller(CONFIG, mamba_heads=2)).mamba_heads[0] == (0, 2)
    kept = choose(importance, CONFIG, smaller(CONFIG, mamba_heads=2, mamba_head_dim=1))
    assert kept.mamba_channels[0] == (0,)
    assert kept.mamba_heads[0] == (1, 2)  # head 0 was the better one by channel 1, which goes


def test_a_global_ranking_knows_no_groups() -> None:
    importance = _importance()
    importance.widths.mamba[0] = torch.tensor([[1.0] * 3, [2.0] * 3, [4.0] * 3, [3.0] * 3])
    shape = smaller(CONFIG, mamba_heads=2)
    assert choose(importance, CONFIG, shape).mamba_heads[0] == (1, 2)
    assert choose(importance, CONFIG, shape, mamba_ranking="global").mamba_heads[0] == (2, 3)


@pytest.mark.parametrize(
    ("layers", "keep", "expected"),
    [
        (4, {}, (0, 1, 3, 4)),
        (3, {}, (1, 3, 4)),
        (3, {"M": 2}, (0, 3, 4)),
        (3, {"*": 1, "M": 1, "-": 1}, (2, 3, 4)),
    ],
)
def test_blocks_go_in_their_order_but_for_kinds_that_are_kept(
    layers: int, keep: dict[str, int], expected: tuple[int, ...]
) -> None:
    ranked = [(2, 0.1), (0, 0.2), (1, 0.3), (3, 0.5)]
    kept = choose(_importance(ranked), CONFIG, smaller(CONFIG, layers=layers), keep=keep)
    assert kept.layers == expected
    assert set(kept.neurons) == {block for block in expected if CONFIG.pattern[block] == "-"}
    assert set(kept.mamba_heads) == {block for block in expected if CONFIG.pattern[block] == "M"}


def test_too_few_ranked_blocks_are_refused() -> None:
    with pytest.raises(UsageError, match="3 blocks have to go, and the importance ranks only 1 that may"):
        choose(_importance([(2, 0.1)]), CONFIG, smaller(CONFIG, layers=2))
    with pytest.raises(UsageError, match="ranks only 1 that may"):
        choose(_importance([(2, 0.1), (0, 0.2)]), CONFIG, smaller(CONFIG, layers=3), keep={"*": 1})


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"hidden": 7}, "hidden 7 is not within 1 to 6"),
        ({"ffn": 0}, "ffn 0 is not within 1 to 4"),
        ({"layers": 6}, "layers 6 is not within 1 to 5"),
        ({"mamba_heads": 3}, "mamba_heads 3 is no multiple of the model's 2 groups"),
        ({"attention_heads": 1}, "attention_heads 1 is no multiple of the model's 2 key/value heads"),
    ],
)
def test_a_shape_that_the_model_cannot_have_is_refused(sizes: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        choose(_importance(), CONFIG, smaller(CONFIG, **sizes))


def test_the_shape_of_a_model_applied_to_it_is_the_model() -> None:
    assert Shape.of(CONFIG).applied(CONFIG, CONFIG.pattern) == CONFIG
