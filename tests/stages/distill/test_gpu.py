"""nano2 distill on a CUDA device."""

from pathlib import Path

import pytest
import torch

from model.loading import load
from tests.stages.distill.helpers import Settings, distill, logged

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

DEVICE = "cuda"


@pytest.mark.parametrize("kept", [{}, {"top_k": 16}])
def test_it_follows_the_cpu(settings: Settings, tmp_path: Path, kept: Settings) -> None:
    """Ten steps; with a teacher in memory and with its kept logits."""
    settings |= {**kept, "teacher_dtype": "float32", "dtype": "float32"}
    on_cpu = distill(settings, tmp_path / "cpu").result.metrics
    on_device = distill(settings | {"device": DEVICE}, tmp_path / "device").result.metrics
    losses = [[line["loss"] for line in logged(tmp_path / name)] for name in ("cpu", "device")]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    figure = "validation_top_k_kl" if kept else "validation_kl"
    assert on_device[figure] == pytest.approx(on_cpu[figure], rel=2e-3)
    ids = torch.arange(40)[None]
    logits = [load(tmp_path / name)(ids).logits for name in ("cpu", "device")]
    torch.testing.assert_close(logits[1], logits[0], atol=2e-2, rtol=2e-2)


def test_a_bfloat16_run_learns(settings: Settings, tmp_path: Path) -> None:
    settings |= {"device": DEVICE, "precision": "bfloat16", "tokens": 30 * settings["batch_tokens"]}
    distill(settings, tmp_path / "out")
    losses = [line["loss"] for line in logged(tmp_path / "out")]
    assert losses[-1] < 0.5 * losses[0]
