"""Small models measured on small packed data, and pruned through files, as the stage does it."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from model.artifact.weights import CheckpointFiles, save_weights
from model.config import HybridConfig
from model.hybrid import HybridLM
from model.loading import load, save, save_config
from stages.common.config import WeightedPath
from stages.common.data.packing import Packer
from stages.common.data.row_writer import RowWriter
from stages.common.reporter import QuietReporter
from stages.common.stage import StageContext, StopFlag
from stages.common.training.batches import TrainingData
from stages.prune.importance.measure import measure
from stages.prune.importance.settings import ImportanceSettings
from stages.prune.importance.store import Importance
from stages.prune.kept import Kept, Shape, choose
from stages.prune.slicing import sliced, sliced_config

SEQ_LEN = 24
ROWS = 10
MODEL_HASH = "sha256:" + "1" * 64


def packed_rows(directory: Path, vocab_size: int = 96, rows: int = ROWS) -> TrainingData:
    """Rows of several documents of random tokens each, with padding at the end of some."""
    generator = np.random.default_rng(0)
    packer = Packer(SEQ_LEN, 0)
    lengths = generator.integers(3, 20, 4 * rows)
    documents = [generator.integers(0, vocab_size, length, dtype=np.int32) for length in lengths]
    packed = [row for ids in documents for row in packer.add(ids)] + list(packer.flush())
    with RowWriter(directory / "sources/a", SEQ_LEN) as writer:
        for row in packed[-rows:]:
            writer.write(row)
    counts = dict.fromkeys(
        ("tokens", "documents", "cut_documents", "bytes", "read", "empty", "exact_duplicates"), 0
    ) | dict.fromkeys(("near_duplicates", "held_out", "like_validation"), 0)
    description = {
        "schema_version": 1,
        "seq_len": SEQ_LEN,
        "vocab_size": vocab_size,
        "tokenizer": "sha256:0",
        "sources": {"a": counts | {"rows": rows}},
        "phases": [{"a": 1.0}] * 3,
        "validation": None,
    }
    (directory / "dataset.json").write_text(json.dumps(description))
    return TrainingData([WeightedPath(path=directory)])


def context(run_dir: Path) -> StageContext:
    run_dir.mkdir(parents=True, exist_ok=True)
    return StageContext(
        QuietReporter(), StopFlag(), ["nano2"], _run_dir=run_dir, _out=run_dir.with_suffix(".out")
    )


def measured(
    lm: HybridLM,
    data: TrainingData,
    run_dir: Path,
    *,
    deepest: int | None = None,
    keep: Mapping[str, int] | None = None,
    **settings: object,
) -> Importance:
    """The importance of `lm`; by default no block goes."""
    return measure(
        lm,
        data,
        ImportanceSettings.model_validate({"samples": data.row_counts["a"], "sample_batch": 3, **settings}),
        deepest=len(lm.config.pattern) if deepest is None else deepest,
        keep=keep or {},
        model=MODEL_HASH,
        datasets=["sha256:2"],
        context=context(run_dir),
    )


def smaller(config: HybridConfig, **sizes: int) -> Shape:
    """The shape of a model, with some sizes changed."""
    return Shape(**{**vars(Shape.of(config)), **sizes})


def prune_to(lm: HybridLM, importance: Importance, kept: Kept, folder: Path) -> HybridLM:
    """Writes `lm` and what is kept of it as checkpoints, and reads the latter."""
    whole, pruned = folder / "whole", folder / "pruned"
    for directory in (whole, pruned):
        directory.mkdir(parents=True, exist_ok=True)
    save(lm, whole)
    save_weights(sliced(CheckpointFiles(whole), lm.config, kept, importance), pruned)
    save_config(sliced_config(lm.config, kept), pruned, lm.lm_head.weight.dtype)
    return load(pruned)


def pruned(
    lm: HybridLM, data: TrainingData, folder: Path, *, keep: Mapping[str, int] | None = None, **sizes: int
) -> tuple[Kept, HybridLM]:
    """Measures, chooses, prunes: what is kept, and the pruned model."""
    shape = smaller(lm.config, **sizes)
    importance = measured(lm, data, folder / "run", deepest=shape.layers, keep=keep)
    kept = choose(importance, lm.config, shape, keep=keep)
    return kept, prune_to(lm, importance, kept, folder)


@torch.no_grad()
def logit_error(ours: HybridLM, reference: HybridLM, data: TrainingData) -> float:
    """Largest difference of logits on real tokens of the data."""
    batch = data.rows([("a", row) for row in range(ROWS)])
    real_BT = batch.document_ids_BT >= 0
    outputs = [lm(batch.input_ids_BT, batch.document_ids_BT).logits[real_BT] for lm in (ours, reference)]
    return float((outputs[0] - outputs[1]).abs().max())
