"""Some of a run's ranks, which do something together."""

from dataclasses import dataclass
from functools import cached_property

import torch.distributed as dist


@dataclass(frozen=True)
class RankGroup:
    """The ranks of a process group: how many there are, and which of them this is."""

    group: dist.ProcessGroup

    @cached_property
    def rank(self) -> int:
        return dist.get_rank(self.group)

    @cached_property
    def size(self) -> int:
        return dist.get_world_size(self.group)
