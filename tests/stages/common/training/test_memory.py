"""The planned memory of a training step against what a process of its own took."""

import pytest

from model.config import HybridConfig
from stages.bench.cpu.measure import measure_training
from stages.bench.cpu.sweep import PRESET, TrainSetting
from stages.bench.isolation import run_isolated
from stages.common.training.memory import training_memory


@pytest.mark.parametrize(
    ("batch", "length", "precision", "bound"),
    [
        (1, 512, "float32", 0.15),
        (4, 512, "float32", 0.15),
        (1, 2048, "float32", 0.15),
        (4, 512, "bfloat16", 0.25),
    ],
)
def test_the_plan_is_near_the_measured_peak(batch: int, length: int, precision: str, bound: float) -> None:
    """Where bfloat16 products are taken in float32, copies of their operands come on top of the plan."""
    setting = TrainSetting("nano2", length, batch, precision, "sdpa")
    measured = run_isolated(measure_training, setting, 1, 2).peak_bytes
    planned = training_memory(HybridConfig.preset(PRESET), batch, length, precision).total
    assert 1 - bound < planned / measured < 1 + bound
