"""nano2 merge with the evaluations of its sweep on a CUDA device."""

from pathlib import Path

import pytest
import torch

from model.loading import load
from tests.stages.merge.helpers import merge
from tests.stages.merge.test_sweep import SWEEP

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

DEVICE = "cuda"


def test_a_sweep_scores_as_the_cpu(a: Path, b: Path, tmp_path: Path) -> None:
    """One answer of each task may turn where two are as likely."""
    rows = [
        merge(tmp_path / name, a, b, **SWEEP | {"device": device}).result.rows
        for name, device in (("reference", "cpu"), ("there", DEVICE))
    ]
    for theirs, mine in zip(*rows, strict=True):
        assert mine["alpha"] == theirs["alpha"]
        assert mine["score"] == pytest.approx(theirs["score"], abs=1.001 / SWEEP["limit"])


def test_what_is_merged_computes_the_same_there(a: Path, b: Path, tmp_path: Path) -> None:
    merge(tmp_path / "out", a, b, alpha=0.5, method="slerp")
    ids = torch.arange(40)[None]
    with torch.no_grad():
        logits = [load(tmp_path / "out", device)(ids.to(device)).logits.cpu() for device in ("cpu", DEVICE)]
    torch.testing.assert_close(logits[1], logits[0], atol=1e-4, rtol=1e-4)
