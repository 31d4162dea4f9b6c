"""nano2 pretrain on a CUDA device."""

from pathlib import Path
from typing import Any

import pytest
import torch

from model import load
from model.artifact.hashing import content_hash
from model.artifact.provenance import read_provenance
from model.errors import InterruptedRunError
from stages.common.training.loop import TrainingLoop
from tests.stages.pretrain.test_pretrain import logged, pretrain

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def test_a_bfloat16_run_learns_and_says_where_it_ran(settings: dict[str, Any], tmp_path: Path) -> None:
    pretrain(settings | {"device": "cuda", "precision": "bfloat16", "tokens": "8k"}, tmp_path / "base")
    losses = [line["loss"] for line in logged(tmp_path / "base") if "loss" in line]
    assert losses[-1] < 0.9 * losses[0]
    assert load(tmp_path / "base").lm_head.weight.dtype == torch.bfloat16
    provenance = read_provenance(tmp_path / "base")
    assert provenance is not None
    assert provenance.device["type"] == "cuda"


def test_it_follows_the_cpu(settings: dict[str, Any], tmp_path: Path) -> None:
    pretrain(settings, tmp_path / "cpu")
    pretrain(settings | {"device": "cuda"}, tmp_path / "cuda")
    cpu, cuda = (
        [line["loss"] for line in logged(tmp_path / name) if "loss" in line] for name in ("cpu", "cuda")
    )
    assert cuda == pytest.approx(cpu, rel=1e-3)


def test_an_interrupted_run_continues_to_the_same_weights(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings |= {"device": "cuda"}
    pretrain(settings, tmp_path / "whole")
    step = TrainingLoop._step

    def stop_after_five(self: TrainingLoop, *arguments: Any) -> bool:
        if self.counters.step == 5:
            self.context.stop.signal_name = "SIGINT"
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", stop_after_five)
        with pytest.raises(InterruptedRunError):
            pretrain(settings, tmp_path / "base")
    pretrain(settings, tmp_path / "base")
    assert content_hash(tmp_path / "base") == content_hash(tmp_path / "whole")
