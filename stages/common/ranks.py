"""The ranks of a run: the processes that `torchrun` started for one command, one a device.

The first rank is the command: it checks, locks, plans, shows progress, and puts the artifact in its place. The others
wait for its word, compute with it, and write into a folder of their own that is thrown away.
"""

import os
from dataclasses import dataclass
from typing import Any

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


@dataclass(frozen=True)
class Ranks:
    """rank: of this process. size: how many there are. local: which of its machine's this is, and its GPU's number."""

    rank: int
    size: int
    local: int

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def on_machine(self) -> int:
        """How many of them run on this one's machine."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.size))

    def join(self) -> None:
        """Meet the others, once. Whoever asks for a collective before hangs."""
        import torch
        import torch.distributed as dist

        if dist.is_initialized():
            return
        if torch.cuda.is_available():
            torch.cuda.set_device(self.local)
            dist.init_process_group("cpu:gloo,cuda:nccl")
        else:
            dist.init_process_group("gloo")

    def tell(self, word: Any = None) -> Any:
        """What the first rank says, at every rank."""
        import torch.distributed as dist

        words = [word]
        dist.broadcast_object_list(words, src=0)
        return words[0]

    def meet(self) -> None:
        """Wait until all ranks are here."""
        self.tell()

    def leave(self) -> None:
        """Part from the others."""
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()


def lost_rank(error: BaseException) -> bool:
    """Does this error of a collective say that another rank is gone?"""
    return any(
        sign in str(error) for sign in ("Connection closed by peer", "Connection reset", "Broken pipe")
    )


def ranks() -> Ranks | None:
    """Those of this run; None where it was not started by torchrun."""
    if not all(name in os.environ for name in _VARIABLES):
        return None
    rank, size, local = (int(os.environ[name]) for name in _VARIABLES)
    return Ranks(rank, size, local)


def is_first() -> bool:
    """Is this the process that speaks and writes?"""
    found = ranks()
    return found is None or found.first
