"""Plans for models, data and devices that are not there."""

from dataclasses import dataclass

import pytest
import torch

from model.errors import ArtifactError
from model.parallel.shape import MeshShape
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


@dataclass(frozen=True)
class Made:
    """A command whose models are spread over all devices, and its rows over those that read them. In devices' memory."""

    of_all: float
    of_row: float

    def plan_on(self, mesh: MeshShape) -> Plan:
        memory = self.of_all / mesh.ranks + self.of_row / (mesh.context * mesh.tensor)
        return Plan(title="x", peak_bytes=round(memory * H200.memory), seconds=1000 / mesh.ranks)


@pytest.mark.parametrize(
    ("micro_batches", "of_all", "of_row", "most", "expected"),
    [
        (12, 0.5, 0.3, 8, MeshShape(6, 1, 1)),  # as many as divide the micro-batches
        (12, 0.5, 0.3, 1, MeshShape(1, 1, 1)),
        (12, 3.0, 0.3, 8, MeshShape(6, 1, 1)),  # 3/6 + 0.3
        (2, 3.0, 0.8, 8, MeshShape(2, 4, 1)),  # 3/2 + 0.8 and 3/4 + 0.4 are too much
        (1, 0.1, 6.0, 8, MeshShape(1, 8, 1)),  # a row that only all together hold
    ],
)
def test_a_plan_is_spread_over_devices(
    micro_batches: int, of_all: float, of_row: float, most: int, expected: MeshShape
) -> None:
    made = Made(of_all, of_row)
    layout = spread(made.plan_on, micro_batches, H200, most)
    assert layout is not None
    assert layout.mesh == expected
    assert layout.memory == made.plan_on(expected).peak_bytes
    assert layout.seconds == pytest.approx(1000 / expected.ranks)


def test_where_tokens_cannot_be_shared_mixers_are() -> None:
    def short_rows(mesh: MeshShape) -> Plan:
        mesh.piece(6)
        return Made(0.1, 3.0).plan_on(mesh)

    layout = spread(short_rows, 1, H200, 8)
    assert layout is not None
    assert layout.mesh == MeshShape(1, 2, 2)


def test_what_fits_nowhere_has_no_layout() -> None:
    assert spread(Made(0.1, 8.0).plan_on, 1, H200, 8) is None
