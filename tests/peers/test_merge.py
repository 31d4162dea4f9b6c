"""Merged artifacts in transformers: they load as they are, and compute what averaging by hand gives there."""

from pathlib import Path

import pytest
import torch

from model import load
from tests.model.miniatures import random_ids
from tests.stages.conftest import tokenizer_directory
from tests.stages.merge.helpers import make_model, merge
from tests.stages.verify.test_verify import verify

transformers = pytest.importorskip("transformers")

__all__ = ["tokenizer_directory"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_those_of_weights_averaged_by_hand(
    dtype: torch.dtype, tokenizer_directory: Path, tmp_path: Path
) -> None:
    one, other = (make_model(tmp_path / str(seed), tokenizer_directory, seed, dtype) for seed in (0, 1))
    merge(tmp_path / "out", one, other, alpha=0.25)
    merged, info = transformers.NemotronHForCausalLM.from_pretrained(
        tmp_path / "out", dtype="auto", local_files_only=True, output_loading_info=True
    )
    assert not any(info.values()), info
    by_hand, second = (
        transformers.NemotronHForCausalLM.from_pretrained(path, dtype="auto", local_files_only=True)
        for path in (one, other)
    )
    assert merged.dtype == by_hand.dtype == dtype
    theirs = second.state_dict()
    with torch.no_grad():
        for name, tensor in by_hand.state_dict().items():
            tensor.copy_((0.75 * tensor.double() + 0.25 * theirs[name].double()).to(dtype))
    ids = random_ids(load(one).config, 2, 37)
    with torch.no_grad():
        logits = merged.eval()(ids, use_cache=False).logits
        assert torch.equal(logits, by_hand.eval()(ids, use_cache=False).logits)
        assert not torch.equal(logits, second.eval()(ids, use_cache=False).logits)
        if dtype == torch.float32:
            assert (load(tmp_path / "out")(ids).logits - logits).abs().max() < 1e-4
    assert verify(tmp_path / "out").failure is None
