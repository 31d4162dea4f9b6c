"""Memory that runs out in a run: one error that says in which phase, and what would help."""

import resource
from pathlib import Path
from typing import Any

import pytest

from model.errors import PlanRefusedError
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.training.out_of_memory import memory_for
from stages.pretrain.stage import STAGE
from tests.ranks import run_ranks
from tests.stages.pretrain.conftest import dataset, twelve_steps

__all__ = ["dataset"]


def run_within(more: int, out: Path, settings: dict[str, Any]) -> None:
    """A run that may have so many bytes of memory more than this process has now."""
    config = STAGE.config.model_validate(settings)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + more, taken + more))
    run_stage(STAGE, config, out=out, reporter=QuietReporter(), command=["nano2", "pretrain"])


def test_a_run_says_where_and_what_helps(dataset: Path, tmp_path: Path) -> None:
    settings = twelve_steps(dataset) | {"micro_batch": 4, "shape": {"intermediate_size": 400_000}}
    with pytest.raises(PlanRefusedError) as raised:
        run_ranks(1, run_within, 3 * 2**28, tmp_path / "out", settings)
    error = raised.value
    assert error.what.startswith("out of memory in the ")
    assert "after step 0 of 12" in error.where
    assert (
        "lower --micro-batch (4), pass --recompute mlp,mamba,attention, or start more ranks" in error.remedy
    )
    assert not (tmp_path / "out").exists()


def test_other_errors_stay_what_they_are() -> None:
    settings = STAGE.config.model_construct()
    with pytest.raises(RuntimeError, match="shapes"), memory_for("the forward pass", "here", settings):
        raise RuntimeError("shapes do not match")
