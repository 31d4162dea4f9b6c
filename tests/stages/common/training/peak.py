"""What a training step really takes, in a process of its own."""

import ctypes
from collections.abc import Collection
from pathlib import Path

import torch

from model.config import KINDS, HybridConfig
from model.hybrid import HybridLM
from model.loss import next_token_labels, token_cross_entropy
from model.parallel.mesh import Mesh
from model.parallel.shape import MeshShape
from stages.common.allocator import give_back_freed_memory, keep_freed_memory
from stages.common.training.optimizer import build_optimizer
from stages.common.training.settings import OptimizerSettings
from stages.common.training.team import ManyRanks, OneProcess, Team


def step_peak(
    config: HybridConfig,
    sequences: int,
    length: int,
    precision: str,
    recompute: Collection[str] = (),
    shape: MeshShape | None = None,
    packed: bool = True,
) -> int:
    """Peak bytes of two steps of two micro-batches, over what the process held before the model was built."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as a command does (stages/common/harness.py), and then as its training does
    if recompute or shape is not None:
        give_back_freed_memory()
    ctypes.CDLL(None).malloc_trim(0)  # what this process was forked with and does not use
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is there now
    before = _resident("VmHWM")
    torch.manual_seed(0)
    lm = HybridLM(config).train()
    lm.compute_dtype = torch.bfloat16 if precision == "bfloat16" else None
    lm.recompute = frozenset(KINDS[name] for name in recompute)
    team: Team = OneProcess()
    if shape is not None:
        mesh = Mesh.of("cpu", context=shape.context, tensor=shape.tensor)
        mesh.spread(lm, lm.compute_dtype)
        team = ManyRanks(mesh)
    optimizer = build_optimizer(lm, OptimizerSettings())
    cut = team.mesh.context.cut if team.mesh and team.mesh.context else lambda rows_BT: rows_BT
    ids_BT = torch.randint(config.vocab_size, (sequences, length))
    document_ids_BT = (torch.rand(sequences, length) < 0.01).long().cumsum(1) if packed else None
    labels_BT = cut(next_token_labels(ids_BT, document_ids_BT))
    for _ in range(2):
        for _ in range(2):  # with the gradients of the first micro-batch beside the activations of the second
            hidden_BTD = lm.hidden_states(
                cut(ids_BT), None if document_ids_BT is None else cut(document_ids_BT)
            )
            token_cross_entropy(hidden_BTD, lm.lm_head.weight, labels_BT).total.backward()
            del hidden_BTD
        team.clip_gradients(lm, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return _resident("VmHWM") - before


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
