"""The pass of the teacher over the rows that will be trained and validated on, before training."""

from collections.abc import Callable, Sequence

import torch

from model.hybrid import HybridLM
from model.loss import IGNORED
from stages.common.data.blending import BlendedOrder
from stages.common.distillation.loss import top_k
from stages.common.distillation.teacher import teacher_hidden
from stages.common.stage import StageContext
from stages.common.training.batches import Batch, Place, TrainingData
from stages.distill.cache import Entry, LogitCache, bytes_per_token
from stages.distill.config import DistillConfig

SHARD_BYTES = 128 * 2**20
"""A shard is what a killed pass loses at most."""


def rows_to_read(data: TrainingData, order: BlendedOrder) -> list[Place]:
    """Every row of the run once: those to train on, as they are first met, then the held-out ones."""
    trained = (order[index] for index in range(len(order)))
    return list(dict.fromkeys([*trained, *data.validation_places(0)]))


def fill_cache(
    cache: LogitCache,
    load_teacher: Callable[[], HybridLM],
    data: TrainingData,
    places: Sequence[Place],
    config: DistillConfig,
    context: StageContext,
) -> None:
    """Have the teacher read what the cache lacks, shard by shard; it is not even loaded where nothing lacks.

    InterruptedRunError between two micro-batches, with the shards so far kept; NotFiniteError of a teacher with NaN.
    """
    assert config.top_k is not None
    if all(place in cache for place in places):
        context.reporter.log(f"the teacher's logits of all {len(places)} rows are in {cache.directory}")
        return
    with cache.writing():
        missing = [place for place in places if place not in cache]
        teacher = load_teacher()
        shard = rows_per_shard(config.micro_batch, data.seq_len, config.top_k)
        with context.reporter.progress("teacher's logits", total=len(missing), unit="row") as bar:
            for first in range(0, len(missing), shard):
                some = missing[first : first + shard]
                entries: list[Entry] = []
                for start in range(0, len(some), config.micro_batch):
                    context.check_stop("the shards of the teacher's logits so far are kept")
                    batch = data.rows(some[start : start + config.micro_batch]).to(teacher.device)
                    entries += _entries(teacher, batch, config.top_k, config.temperature)
                    bar.update(len(batch.input_ids_BT))
                cache.add(some, entries)


def rows_per_shard(micro_batch: int, seq_len: int, k: int) -> int:
    """Whole micro-batches: then a pass that was cut reads the rest in the same ones."""
    micro_bytes = micro_batch * seq_len * bytes_per_token(k)
    return micro_batch * max(1, SHARD_BYTES // micro_bytes)


def _entries(teacher: HybridLM, batch: Batch, k: int, temperature: float) -> list[Entry]:
    """Of each row of the batch."""
    kept_BT = batch.labels_BT != IGNORED
    hidden_nE = teacher_hidden(teacher, batch)[kept_BT]
    top = top_k(hidden_nE, teacher.lm_head.weight, k, temperature=temperature)
    counts = kept_BT.sum(1).tolist()
    least = torch.finfo(torch.float16).min
    ids = top.ids_nk.int().cpu().split(counts)
    logprobs = top.logprobs_nk1.clamp(min=least).half().cpu().split(counts)
    return [Entry(*parts) for parts in zip(ids, logprobs, strict=True)]
