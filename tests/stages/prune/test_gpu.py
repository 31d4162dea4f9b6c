"""nano2 prune on a CUDA device."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from model.artifact.hashing import file_sha256
from model.loading import load
from tests.stages.prune.test_run import prune

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

DEVICE = "cuda"
IMPORTANCE = "prune/importance.safetensors"


def test_importance_is_the_cpus_and_so_is_what_is_cut_by_it(settings: dict[str, Any], tmp_path: Path) -> None:
    prune(settings, tmp_path / "cpu")
    prune(settings | {"device": DEVICE}, tmp_path / "device")
    mine, theirs = (load_file(tmp_path / name / IMPORTANCE) for name in ("device", "cpu"))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-6, msg=name)
    known = {"importance": str(tmp_path / "cpu" / IMPORTANCE), "device": DEVICE}
    prune(settings | known, tmp_path / "known")
    assert file_sha256(tmp_path / "known/model.safetensors") == file_sha256(
        tmp_path / "cpu/model.safetensors"
    )
    ids = torch.arange(40)[None]
    with torch.no_grad():
        logits = [load(tmp_path / "known", device)(ids.to(device)).logits.cpu() for device in ("cpu", DEVICE)]
    torch.testing.assert_close(logits[1], logits[0], atol=1e-4, rtol=1e-4)


def test_a_search_measures_what_the_cpu_measures(settings: dict[str, Any], tmp_path: Path) -> None:
    """Its teacher is in bfloat16 there. Speed is measured, too."""
    search = {"ffn": "48,56", "distill_tokens": 1024, "dtype": "float32", "min_speedup": 0.01}
    rows = [
        prune(settings | search | {"device": device}, tmp_path / name).rows
        for name, device in (("reference", "cpu"), ("there", DEVICE))
    ]
    for theirs, mine in zip(*rows, strict=True):
        assert (mine["ffn"], mine["params"]) == (theirs["ffn"], theirs["params"])
        assert mine["validation_loss"] == pytest.approx(theirs["validation_loss"], rel=2e-3)
        assert mine["tok_per_s"] > 0
