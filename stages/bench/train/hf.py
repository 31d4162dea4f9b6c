"""Their side: what transformers' own trainer does in a step, without its bookkeeping.

The weights, rows, optimizer settings and clipping are ours. Its kernels are chosen by transformers, but for attention: on a
GPU mamba-ssm's and causal-conv1d's where they are installed.

Shapes: B rows, T tokens.
"""

import importlib.util
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers.utils import is_flash_attn_2_available

from model.kernels import choice
from model.loss import IGNORED
from stages.bench.peer import transformers_model
from stages.bench.train.job import Job, Step
from stages.bench.train.nano2 import LEARNING_RATE
from stages.bench.train.points import AUTOCAST, HALF_WEIGHTS, Point
from stages.bench.train.rows import from_arrays, several_documents
from stages.bench.train.stopwatch import Observer
from stages.common.training.hardware import synchronize
from stages.common.training.optimizer import build_optimizer
from stages.common.training.settings import OptimizerSettings

KERNELS = ("mamba_ssm", "causal_conv1d")


def has_kernels(device: str) -> bool:
    """Does transformers have fused kernels there, without which it cannot keep the documents of a row apart?"""
    return device == "cuda" and all(importlib.util.find_spec(name) for name in KERNELS)


def has_flash(device: str) -> bool:
    """Can its attention be the flash_attn package's?"""
    return device == "cuda" and is_flash_attn_2_available()


def train(job: Job, point: Point, steps: int, observer: Observer) -> list[Step]:
    """So many optimizer steps of theirs."""
    model: Any = transformers_model(job.build(), point.attention)
    with _tuned(job):
        return _train(model, job, point, steps, observer)


def _train(model: Any, job: Job, point: Point, steps: int, observer: Observer) -> list[Step]:
    device = job.torch_device
    if point.precision == HALF_WEIGHTS:
        model.to(torch.bfloat16)
    model.train()
    if point.recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    observer.attach(model.model.embeddings, list(model.model.layers), job.kinds)
    settings = OptimizerSettings()
    optimizer = build_optimizer(model, settings)
    for group in optimizer.param_groups:
        group["lr"] = LEARNING_RATE
    batch = from_arrays(job.rows)
    count, packed = batch.count, several_documents(batch)
    done = []
    for step in range(steps):
        started = time.monotonic()
        observer.begin(step)
        total = 0.0
        for start in range(0, len(batch.input_ids_BT), point.micro_batch):
            micro = batch.rows(start, start + point.micro_batch).to(device)
            observer.read()
            with _autocast(point, device):
                loss = model(
                    micro.input_ids_BT,
                    labels=_unshifted(micro.labels_BT),
                    num_items_in_batch=count,
                    use_cache=False,
                    **(apart(micro.document_ids_BT) if packed else {}),
                ).loss
            total += float(loss.detach())
            observer.differentiate()
            loss.backward()
        observer.optimize()
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip))
        optimizer.step()
        optimizer.zero_grad()
        synchronize(device)
        seconds = time.monotonic() - started
        observer.end()
        done.append(Step(seconds, total, norm))
    return done


def _autocast(point: Point, device: torch.device) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16) if point.precision == AUTOCAST else nullcontext()


@contextmanager
def _tuned(job: Job) -> Iterator[None]:
    """Variants of mamba-ssm's kernels are found once, and not by each process again."""
    sample = torch.empty(0, dtype=torch.bfloat16, device=job.torch_device)
    if not choice.fused_scan(sample, job.shape.chunk_size):
        yield
        return
    from model.kernels.cuda import tuning

    tuning.recall()
    yield
    tuning.keep()


def apart(document_ids_BT: Tensor) -> dict[str, Tensor]:
    """What keeps packed documents apart: positions that begin anew for attention, document numbers for Mamba's kernels."""
    begins_BT = torch.ones_like(document_ids_BT, dtype=torch.bool)
    begins_BT[:, 1:] = document_ids_BT[:, 1:] != document_ids_BT[:, :-1]
    places_T = torch.arange(document_ids_BT.shape[1], device=document_ids_BT.device)
    starts_BT = (places_T * begins_BT).cummax(1).values
    return {
        "position_ids": places_T - starts_BT,
        "seq_idx": begins_BT.cumsum(1, dtype=torch.int32) - 1,
    }


def _unshifted(labels_BT: Tensor) -> Tensor:
    """Labels as transformers takes them: it moves them itself."""
    moved_BT = labels_BT.roll(1, dims=1)
    moved_BT[:, 0] = IGNORED
    return moved_BT
