"""nano2 grpo on a CUDA device."""

from pathlib import Path

import pytest
import torch

from model.artifact.hashing import content_hash
from model.errors import InterruptedRunError
from stages.common.training.loop import TrainingLoop
from tests.stages.grpo.conftest import Grpo, logged

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def test_engine_and_trainer_agree_on_the_device(grpo: Grpo, tmp_path: Path) -> None:
    grpo(tmp_path / "out", device="cuda", steps=3)
    assert all(line["gap"] < 1e-4 for line in logged(tmp_path / "out") if "gap" in line)


def test_bfloat16_runs_and_its_gap_is_told(grpo: Grpo, tmp_path: Path) -> None:
    grpo(tmp_path / "out", device="cuda", steps=3, precision="bfloat16", max_gap=1.0)
    gaps = [line["gap"] for line in logged(tmp_path / "out") if "gap" in line]
    assert gaps
    assert all(0 < gap < 0.1 for gap in gaps)


def test_an_interrupted_run_continues_to_the_same_weights(
    grpo: Grpo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"device": "cuda", "updates": 2}
    grpo(tmp_path / "whole", **settings)
    step = TrainingLoop._step

    def stop_after_three(self: TrainingLoop, *arguments: object) -> bool:
        if self.counters.step == 3:
            self.context.stop.signal_name = "SIGINT"
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", stop_after_three)
        with pytest.raises(InterruptedRunError):
            grpo(tmp_path / "parts", **settings)
    grpo(tmp_path / "parts", **settings)
    assert content_hash(tmp_path / "parts") == content_hash(tmp_path / "whole")
