"""The state from which an interrupted run continues: parameters, optimizer moments, random generators, position.

A state is one directory `OUT.run/step-00000042`, written aside, forced to disk and renamed, so that the newest one found is
whole whenever the process died. Tensors go through torch.distributed.checkpoint in its safetensors format (no pickle), by
the entries of `model.parallel.chunks`: any number of ranks on any mesh reads what any other wrote. The position in the data
is the number of steps alone: the data order is a function of it.
"""

import json
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor

from model.artifact.staging import sync_tree, write_json
from model.errors import ArtifactError
from model.hybrid import HybridLM
from model.parallel.chunks import Chunk, entries
from model.parallel.shards import local
from model.parallel.tensor import splits
from stages.common.ranks import is_first

if TYPE_CHECKING:
    from model.parallel.mesh import Mesh

_COUNTERS_FILE = "counters.json"
_PREFIX = "step-"


@dataclass
class Counters:
    """Where a run stands: optimizer steps, tokens in their rows, and seconds spent on them."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


class StateWriter:
    """Writes states of a run. The ranks of a mesh do it together, each writes what it holds.

    asynchronous: `save` copies the state into the machine's memory and returns; it is written while training goes on.
    """

    def __init__(
        self,
        run_dir: Path,
        lm: HybridLM,
        optimizer: torch.optim.Optimizer,
        mesh: "Mesh | None" = None,
        *,
        asynchronous: bool = False,
    ) -> None:
        self._run_dir, self._lm, self._optimizer, self._mesh = run_dir, lm, optimizer, mesh
        # Collectives of two threads must not meet in one group.
        self._group = dist.new_group(backend="gloo") if mesh is not None else None
        self._thread = ThreadPoolExecutor(1, "state") if asynchronous else None
        self._going_on: Future[None] | None = None

    def save(self, counters: Counters) -> None:
        """Write a new state and remove the older ones. Raises what the writing of this or of the last one met."""
        if not self._optimizer.state:  # before the first step; the state is read back with moments
            _create_moments(self._optimizer)
        tensors = _tensors(self._lm, self._optimizer, self._mesh)
        self.finish()
        if self._thread is None:
            self._write(tensors, counters)
        else:
            copies = {name: _copied(tensor) for name, tensor in tensors.items()}
            self._going_on = self._thread.submit(self._write, copies, counters)

    def finish(self) -> None:
        """Wait until the last state lies on disk."""
        writing, self._going_on = self._going_on, None
        if writing is not None:
            writing.result()

    def _write(self, tensors: dict[str, Tensor], counters: Counters) -> None:
        final = self._run_dir / f"{_PREFIX}{counters.step:08d}"
        aside = self._run_dir / f"tmp-{final.name}"
        try:
            if is_first():
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir()
            self._meet()
            with _checkpoint_errors():
                dcp.save(
                    tensors,
                    storage_writer=dcp.HuggingFaceStorageWriter(path=str(aside), save_distributed=True),
                    process_group=self._group,
                    no_dist=self._mesh is None,
                )
            if is_first():
                write_json(aside / _COUNTERS_FILE, asdict(counters))
                sync_tree(aside)
                shutil.rmtree(final, ignore_errors=True)
                aside.rename(final)
                for older in saved_states(self._run_dir)[:-1]:
                    shutil.rmtree(older)
            self._meet()
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise

    def _meet(self) -> None:
        if self._group is not None:
            dist.barrier(self._group)


def load_state(
    run_dir: Path, lm: HybridLM, optimizer: torch.optim.Optimizer, mesh: "Mesh | None" = None
) -> Counters | None:
    """Put the newest state of `run_dir` into model and optimizer; None, and nothing changed, where there is none."""
    states = saved_states(run_dir)
    if not states:
        return None
    _create_moments(optimizer)
    tensors = _tensors(lm, optimizer, mesh)
    try:
        counters = Counters(**json.loads((states[-1] / _COUNTERS_FILE).read_text()))
        with _checkpoint_errors():
            dcp.load(
                tensors,
                storage_reader=dcp.HuggingFaceStorageReader(path=str(states[-1])),
                no_dist=mesh is None,
            )
    except Exception as error:  # the reader raises many kinds
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


def _tensors(lm: HybridLM, optimizer: torch.optim.Optimizer, mesh: "Mesh | None") -> dict[str, Tensor]:
    """Every tensor of the state by name. Tensors of model and optimizer are the live ones, so loading fills them."""
    tensors: dict[str, Tensor] = {"rng.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    cuts = splits(lm.config)
    for name, parameter in lm.named_parameters():
        cut = cuts.get(name)
        tensors |= entries(f"model.{name}", parameter.detach(), cut, mesh)
        for moment, value in optimizer.state[parameter].items():
            if value.dim() == 0:  # how many steps, the same for every part
                tensors[f"{moment}.{name}"] = local(value)
            else:
                tensors |= entries(f"{moment}.{name}", value, cut, mesh)
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


def _copied(tensor: Tensor) -> Tensor:
    """The same entry with numbers of its own, in the machine's memory."""
    if isinstance(tensor, Chunk):
        return Chunk.of(_copied(tensor.held), tensor.offsets, tensor.shape)
    return tensor.to("cpu", copy=True)


@contextmanager
def _checkpoint_errors() -> Iterator[None]:
    """What torch.distributed.checkpoint met, in place of its own error, which is no Exception."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            yield
        except dcp.CheckpointException as error:
            raise next(iter(error.failures.values()))[0] from error
