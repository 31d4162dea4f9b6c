"""What is measured: each side gets every setting that could be its best."""

import pytest

from stages.bench.cpu.sweep import FULL, QUICK, SIDES, Sweep


def test_both_sides_run_every_batch_size_in_every_precision() -> None:
    for length in FULL.lengths:
        for precision in FULL.precisions:
            settings = FULL.training(length, precision)
            batches = {side: {s.batch for s in settings if s.side == side} for side in SIDES}
            assert batches["nano2"] == batches["transformers"] == set(FULL.batches[length])


def test_transformers_tries_each_attention_and_each_way_to_decode() -> None:
    settings = FULL.training(512, "float32")
    assert {s.attention for s in settings if s.side == "transformers"} == set(FULL.attentions)
    methods = {s.method for s in FULL.decoding("float32") if s.side == "transformers"}
    assert methods == set(FULL.decode_methods)


@pytest.mark.parametrize("sweep", [FULL, QUICK])
def test_the_sides_take_turns(sweep: Sweep) -> None:
    for length in sweep.lengths:
        sides = [setting.side for setting in sweep.training(length, "float32")]
        assert sides[0::2].count("nano2") >= 1
        assert "nano2" not in [
            side for side, before in zip(sides[1:], sides, strict=False) if before == "nano2"
        ]


def test_no_setting_is_listed_twice() -> None:
    settings = [s for length in FULL.lengths for p in FULL.precisions for s in FULL.training(length, p)]
    assert len(settings) == len(set(settings))


@pytest.mark.parametrize(
    ("bfloat16", "kept"), [(0.24, ("float32",)), (0.25, ("float32", "bfloat16")), (5.0, ("bfloat16",))]
)
def test_precisions_with_slow_products_are_not_trained_in(bfloat16: float, kept: tuple[str, ...]) -> None:
    sweep = FULL.without_slow_training({"float32": 1.0, "bfloat16": bfloat16})
    assert sweep.train_precisions == kept
    assert sweep.precisions == FULL.precisions


def test_the_issue_names_these_lengths() -> None:
    assert set(FULL.lengths) == set(QUICK.lengths) == {512, 2048}
