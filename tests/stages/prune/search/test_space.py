from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from model.errors import UsageError
from stages.prune.kept import Shape
from stages.prune.search.blocks import Blocks, estimate
from stages.prune.search.space import GivenShape, Sizes, describe, grid
from tests.model.miniatures import miniature

SIZES: TypeAdapter[tuple[int, ...]] = TypeAdapter(Sizes)


@pytest.mark.parametrize(
    ("written", "sizes"),
    [
        (56, (56,)),
        ("56", (56,)),
        ("52,54", (52, 54)),
        ("4480..5120:320", (4480, 4800, 5120)),
        (["48..56:4", 60, "64,72"], (48, 52, 56, 60, 64, 72)),
        ("7..7:1", (7,)),
    ],
)
def test_sizes_are_numbers_and_ranges(written: object, sizes: tuple[int, ...]) -> None:
    assert SIZES.validate_python(written) == sizes


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("48..56", "not FROM..TO:STEP"),
        ("a..b:1", "not FROM..TO:STEP"),
        ("56..48:2", "empty range"),
        ("48..56:0", "empty range"),
        ("48..56:3", "the last step goes to 54"),
        ("1..1000000:1", "more than 100000"),
        (0, "greater than 0"),
    ],
)
def test_other_sizes_are_refused(written: object, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        SIZES.validate_python(written)


def test_a_grid_is_every_combination_and_leaves_the_rest_as_it_is() -> None:
    whole = miniature("M-M*-")
    shapes = grid({**dict.fromkeys(vars(Shape.of(whole)), ()), "layers": (4, 3), "ffn": (40, 56)}, whole)
    assert [(shape.layers, shape.ffn) for shape in shapes] == list(product((3, 4), (40, 56)))
    assert {(shape.hidden, shape.mamba_heads) for shape in shapes} == {(40, 4)}


@pytest.mark.parametrize(
    ("axis", "sizes", "complaint"),
    [
        ("hidden", (40, 48), "hidden 48 is not within 1 to 40"),
        ("mamba_heads", (2, 3), "mamba_heads 3 is no multiple of the model's 2 groups"),
        ("attention_heads", (1,), "attention_heads 1 is no multiple of the model's 2 key/value heads"),
    ],
)
def test_a_grid_beyond_the_model_is_refused(axis: str, sizes: tuple[int, ...], complaint: str) -> None:
    whole = miniature("M-M*-")
    with pytest.raises(UsageError, match=complaint):
        grid({**dict.fromkeys(vars(Shape.of(whole)), ()), axis: sizes}, whole)


def test_a_grid_without_end_is_refused() -> None:
    whole = miniature("M-M*-", hidden_size=2000, intermediate_size=2000)
    axes = {**dict.fromkeys(vars(Shape.of(whole)), ()), "hidden": range(1, 2001), "ffn": range(1, 2001)}
    with pytest.raises(UsageError, match="4000000 shapes"):
        grid(axes, whole)


def test_a_shape_by_name_takes_the_rest_from_the_model() -> None:
    whole = Shape.of(miniature("M-M*-"))
    shape = GivenShape.model_validate("layers=4, ffn=32").within(whole)
    assert shape == Shape(4, 40, 32, 4, 16, 4)
    assert describe(shape, whole) == "4 layers, hidden 40, FFN 32, 4 Mamba heads"
    with pytest.raises(ValidationError, match="not NAME=N"):
        GivenShape.model_validate("layers:4")
    with pytest.raises(ValidationError, match="depth"):
        GivenShape.model_validate("depth=4")


@given(
    st.lists(st.integers(0, 30), min_size=3, max_size=3),
    st.lists(st.integers(0, 30), min_size=3, max_size=3),
    st.data(),
)
def test_an_estimate_has_the_depth_and_keeps_what_must_stay(
    whole: list[int], least: list[int], data: st.DataObject
) -> None:
    counts, floors = Blocks(*whole), Blocks(*(min(pair) for pair in zip(whole, least, strict=True)))
    depth = data.draw(st.integers(floors.total, counts.total))
    found = estimate(counts, floors, depth)
    assert found.total == depth
    for kind in vars(found):
        assert getattr(floors, kind) <= getattr(found, kind) <= getattr(counts, kind)


def test_the_blocks_of_the_9b() -> None:
    assert estimate(Blocks(28, 28, 6), Blocks(27, 25, 4), 56) == Blocks(27, 25, 4)
