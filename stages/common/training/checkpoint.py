"""The state from which an interrupted run continues: parameters, optimizer moments, random generators, position.

A state is one directory `OUT.run/step-00000042`, written aside, forced to disk and renamed, so that the newest one found is
whole whenever the process died. Tensors go through torch.distributed.checkpoint in its safetensors format (no pickle);
names are those of the model's parameters, so the same files serve any sharding. The position in the data is the number
of steps alone: the data order is a function of it.
"""

import json
import shutil
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn

from model.artifact.staging import sync_tree, write_json
from model.errors import ArtifactError

_COUNTERS_FILE = "counters.json"
_PREFIX = "step-"


@dataclass
class Counters:
    """Where a run stands: optimizer steps, tokens in their rows, and seconds spent on them."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


def save_state(run_dir: Path, model: nn.Module, optimizer: torch.optim.Optimizer, counters: Counters) -> None:
    """Write a new state and remove the older ones."""
    if not optimizer.state:  # before the first step; the state is read back with moments
        _create_moments(optimizer)
    final = run_dir / f"{_PREFIX}{counters.step:08d}"
    aside = run_dir / f"tmp-{final.name}"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            dcp.save(
                _tensors(model, optimizer),
                storage_writer=dcp.HuggingFaceStorageWriter(path=str(aside)),
                no_dist=True,
            )
        write_json(aside / _COUNTERS_FILE, asdict(counters))
        sync_tree(aside)
        shutil.rmtree(final, ignore_errors=True)
        aside.rename(final)
    except (Exception, dcp.CheckpointException) as error:
        shutil.rmtree(aside, ignore_errors=True)
        if not isinstance(error, Exception):  # carries the real causes by rank, and is no Exception itself
            raise next(iter(error.failures.values()))[0] from error
        raise
    for older in saved_states(run_dir)[:-1]:
        shutil.rmtree(older)


def load_state(run_dir: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Counters | None:
    """Put the newest state of `run_dir` into model and optimizer; None, and nothing changed, where there is none."""
    states = saved_states(run_dir)
    if not states:
        return None
    _create_moments(optimizer)
    tensors = _tensors(model, optimizer)
    try:
        counters = Counters(**json.loads((states[-1] / _COUNTERS_FILE).read_text()))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            dcp.load(
                tensors,
                storage_reader=dcp.HuggingFaceStorageReader(path=str(states[-1])),
                no_dist=True,
            )
    except (
        Exception,
        dcp.CheckpointException,
    ) as error:  # the reader raises many kinds; its own is no Exception
        raise ArtifactError(
            f"the saved state cannot be read ({type(error).__name__}: {str(error).splitlines()[0]})",
            where=str(states[-1]),
            remedy="remove this directory to start over, or restore it",
        ) from error
    torch.set_rng_state(tensors["rng.cpu"])
    if "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"])
    return counters


def saved_states(run_dir: Path) -> list[Path]:
    """Whole states, oldest first."""
    return sorted(path for path in run_dir.glob(f"{_PREFIX}*") if path.is_dir())


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Every tensor of the state by name. Tensors of model and optimizer are the live ones, so loading fills them."""
    tensors: dict[str, Tensor] = {"rng.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter.detach()
        for moment, value in optimizer.state[parameter].items():
            tensors[f"{moment}.{name}"] = value
    return tensors


def _create_moments(optimizer: torch.optim.Optimizer) -> None:
    """Give AdamW the state tensors that its first step would make, for the saved ones to be read into."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
