"""Plans for models, data and devices that are not there."""

import pytest
import torch

from model.errors import ArtifactError
from stages.common.cluster import H200, flops, spread
from stages.common.plan import Plan
from stages.common.training.hardware import (
    Accelerator,
    assumed_accelerator,
    available_bytes,
    matrix_rate,
    resolve_device,
)
from stages.pretrain.config import PretrainConfig
from stages.pretrain.plan import plan as pretrain_plan
from stages.reward.config import RewardConfig
from stages.reward.plan import plan as reward_plan
from stages.sft.config import SftConfig
from stages.sft.plan import plan as sft_plan


def sft(**changes: object) -> SftConfig:
    settings = {"model": "m", "data": ["d"], "preset": "tiny", "batch_tokens": 8192, "seq_len": 512}
    return SftConfig.model_validate(settings | changes)


def test_planned_tokens_are_those_of_an_epoch() -> None:
    assert sft_plan(sft(planned_tokens=81920, epochs=2)).sections["Work"]["tokens"] == 2 * 81920
    assert sft_plan(sft()).sections["Work"]["tokens"] == 8192  # one step

    settings = {"model": "m", "data": ["d"], "preset": "tiny", "seq_len": 512, "batch_pairs": 16}
    planned = reward_plan(RewardConfig.model_validate(settings | {"planned_tokens": 81920}))
    assert planned.sections["Work"]["tokens"] == 81920


def test_what_is_only_planned_with_changes_no_artifact() -> None:
    assert {"planned_tokens", "preset"} <= SftConfig.cosmetic_fields()
    assert "planned_seq_len" in PretrainConfig.cosmetic_fields()


def test_pretraining_is_planned_without_data_for_rows_that_are_told() -> None:
    settings = {"data": ["d"], "preset": "tiny", "tokens": 10_000, "batch_tokens": 1024}
    planned = pretrain_plan(PretrainConfig.model_validate(settings | {"planned_seq_len": 256}))
    assert planned.sections["Work"]["row_tokens"] == 256
    assert planned.sections["Work"]["tokens"] == 10 * 1024
    assert "not there" in planned.warnings[0]
    with pytest.raises(ArtifactError):
        pretrain_plan(PretrainConfig.model_validate(settings))


def test_an_assumed_device_is_planned_for_and_then_forgotten() -> None:
    here = resolve_device("auto")
    with assumed_accelerator(Accelerator("X", memory=1000, flops_per_s=5e3)):
        device = resolve_device("auto")
        assert device.type == "cuda"
        assert matrix_rate(device, torch.bfloat16) == 5e3
        assert available_bytes(device) == 1000
        planned = sft_plan(sft())
        assert planned.seconds == pytest.approx(flops(planned) / 5e3 / 0.35)
        assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto") == here
    assert sft_plan(sft()).seconds != planned.seconds


def plan_of(rows: int, all_bytes: float, row_bytes: float) -> Plan:
    return Plan(
        title="a step of rows of 100 tokens",
        sections={
            "Work": {"tokens": rows * 100, "tokens_per_step": rows * 100, "row_tokens": 100, "flops": 7.0},
            "Memory": {
                "weights_bytes": round(all_bytes),
                "mlp_activations_bytes": round(row_bytes),
                "total_bytes": round(all_bytes + row_bytes),
            },
        },
        seconds=1000.0,
    )


@pytest.mark.parametrize(
    ("rows", "all_share", "row_share", "most", "devices", "devices_per_row"),
    [
        (12, 0.5, 0.3, 8, 6, 1),  # as many as divide the rows
        (12, 0.5, 0.3, 1, 1, 1),
        (12, 3.0, 0.3, 8, 6, 1),  # 3/6 + 0.3
        (2, 3.0, 0.8, 8, 8, 4),  # 3/2 + 0.8 and 3/4 + 0.4 are too much
        (1, 0.1, 6.0, 8, 8, 8),  # a row that only all together hold
    ],
)
def test_a_plan_is_spread_over_devices(
    rows: int, all_share: float, row_share: float, most: int, devices: int, devices_per_row: int
) -> None:
    layout = spread(plan_of(rows, all_share * H200.memory, row_share * H200.memory), H200, most)
    assert layout is not None
    assert (layout.devices, layout.devices_per_row) == (devices, devices_per_row)
    expected = all_share / devices + row_share / devices_per_row
    assert layout.memory == pytest.approx(expected * H200.memory)
    assert layout.seconds == pytest.approx(1000 / devices)


def test_what_fits_nowhere_has_no_layout() -> None:
    assert spread(plan_of(1, 0.1 * H200.memory, 8 * H200.memory), H200, 8) is None
