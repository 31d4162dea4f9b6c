"""A model pruned on every axis, loaded by transformers from its files, and as `nano2 verify` sees it."""

from pathlib import Path

import pytest
import torch

from model.loading import load
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.verify.stage import STAGE as VERIFY
from tests.model.miniatures import MINIATURES, random_ids, randomized
from tests.stages.prune.miniature_runs import packed_rows, pruned

transformers = pytest.importorskip("transformers")

SIZES = {
    "nano2-12b-pattern": {"layers": 60, "hidden": 14, "ffn": 20, "mamba_heads": 2},
    "width-unlike-expand": {"hidden": 19, "mamba_heads": 3, "mamba_head_dim": 17, "attention_heads": 3},
    "eight-groups-conv-3": {"layers": 3, "mamba_head_dim": 5, "attention_heads": 2, "ffn": 40},
    "biases": {"hidden": 31, "ffn": 33, "mamba_heads": 2, "mamba_head_dim": 9},
}


@pytest.mark.parametrize("name", list(SIZES))
def test_pruned_files_are_a_model_of_transformers(name: str, tmp_path: Path) -> None:
    lm = randomized(MINIATURES[name])
    (tmp_path / "data").mkdir()
    kept, small = pruned(lm, packed_rows(tmp_path / "data", rows=2), tmp_path, **SIZES[name])
    assert len(small.config.pattern) == SIZES[name].get("layers", len(lm.config.pattern)) == len(kept.layers)
    directory = tmp_path / "pruned"
    theirs, info = transformers.NemotronHForCausalLM.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True, output_loading_info=True
    )
    assert not any(info.values()), info
    ids = random_ids(small.config, 2, 37)
    with torch.no_grad():
        exact, ours = (load(directory, dtype=dtype)(ids).logits for dtype in ("float64", "float32"))
        errors = [(each - exact).abs() for each in (ours, theirs.eval()(ids, use_cache=False).logits)]
    assert max(error.max() for error in errors) < 1e-3  # sixty random blocks multiply what float32 rounds off
    assert errors[0].median() < 1.5 * errors[1].median()  # which of the two has the largest error is chance
    verify = VERIFY.config.model_validate({"model": str(directory)})
    result = run_stage(VERIFY, verify, out=None, reporter=QuietReporter(), command=["nano2", "verify"]).result
    assert result.failure is None
