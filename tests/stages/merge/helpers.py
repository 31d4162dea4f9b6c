"""Models to merge, and their weights as a plain dictionary."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from model.loading import save
from model.tokenizer import copy_tokenizer, load_tokenizer
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageOutcome
from stages.merge.config import MergeConfig
from stages.merge.stage import STAGE
from tests.model.miniatures import miniature, randomized


def make_model(
    directory: Path, tokenizer: Path, seed: int, dtype: torch.dtype = torch.float32, **shape: Any
) -> Path:
    """A random model of every kind of block; another seed is another model of the same shape."""
    directory.mkdir(parents=True)
    copy_tokenizer(tokenizer, directory)
    vocab = len(load_tokenizer(tokenizer))
    config = miniature("M-M*-", vocab_size=vocab, max_position_embeddings=2048, **shape)
    save(randomized(config, seed=seed), directory, dtype)
    return directory


def weights_of(directory: Path) -> dict[str, Tensor]:
    """Of all files, as they are stored."""
    tensors: dict[str, Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors |= load_file(path)
    return tensors


def merge(
    out: Path, *models: Path | str, reporter: QuietReporter | None = None, **settings: Any
) -> StageOutcome:
    config = MergeConfig.model_validate({"model": list(models), **settings})
    return run_stage(STAGE, config, out=out, reporter=reporter or QuietReporter(), command=["nano2", "merge"])
