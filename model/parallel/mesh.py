"""The ranks of a run on a mesh of three axes, and a model spread over them.

data: rows. context: the tokens of a row, in pieces. tensor: heads and inner widths of the mixers. Parameters and the
optimizer's moments are sharded over the ranks of data and context (FSDP2); vectors and convolutions, a thousandth of the
parameters, stay whole there, so that they are multiplied in float32 whatever the matrices are gathered in.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from model.hybrid import HybridLM
from model.parallel.context import Context
from model.parallel.shape import MeshShape
from model.parallel.shards import is_sharded, local, stays_whole
from model.parallel.tensor import Split, TensorRanks, split_mixers, splits


@dataclass(frozen=True)
class Mesh:
    """`devices` has the axes data, context and tensor."""

    devices: DeviceMesh

    @classmethod
    def of(cls, device_type: str, *, context: int = 1, tensor: int = 1) -> "Mesh":
        """All ranks of the process group. UsageError if they cannot be arranged so."""
        shape = MeshShape.of(dist.get_world_size(), context=context, tensor=tensor)
        return cls(
            init_device_mesh(
                device_type,
                (shape.data, shape.context, shape.tensor),
                mesh_dim_names=("data", "context", "tensor"),
            )
        )

    @property
    def first(self) -> bool:
        """Is this the rank that writes?"""
        return dist.get_rank() == 0

    @cached_property
    def data_rank(self) -> int:
        return self.devices["data"].get_local_rank()

    @cached_property
    def data_size(self) -> int:
        return self.devices["data"].size()

    @cached_property
    def context(self) -> Context | None:
        """The ranks of a row; None where rows are whole."""
        axis = self.devices["context"]
        return Context(axis.get_group()) if axis.size() > 1 else None

    @cached_property
    def tensor(self) -> TensorRanks | None:
        """The ranks of a mixer; None where mixers are whole."""
        axis = self.devices["tensor"]
        return TensorRanks(axis.get_group()) if axis.size() > 1 else None

    @cached_property
    def sharding(self) -> DeviceMesh:
        """The ranks that hold a model's parameters together, and read different tokens."""
        return self.devices["data", "context"]._flatten("sharding")

    def describe(self) -> str:
        """How many ranks lie along each axis."""
        sizes = zip(self.devices.mesh_dim_names or (), self.devices.shape, strict=True)
        return "mesh of ranks: " + ", ".join(f"{axis} {size}" for axis, size in sizes)

    def add(self, values: Tensor) -> None:
        """Sum over all ranks that read different tokens, in place."""
        dist.all_reduce(values, group=self.sharding.get_group())

    def spread(self, lm: HybridLM, gathered: torch.dtype | None = None) -> None:
        """Leave of the model what this rank holds. `gathered`: the dtype in which the blocks' matrices are gathered, and
        their gradients computed; gradients are added in float32 at least."""
        if self.tensor is not None:
            split_mixers(lm, self.tensor)
        lm.context = self.context
        kept_whole = {p for name, p in lm.named_parameters() if stays_whole(name, p)}
        wide = torch.promote_types(lm.lm_head.weight.dtype, torch.float32)
        policy = MixedPrecisionPolicy(param_dtype=gathered, reduce_dtype=wide, cast_forward_inputs=False)
        for block in lm.backbone.layers:
            fully_shard(block, mesh=self.sharding, mp_policy=policy, ignored_params=kept_whole)
        fully_shard(lm, mesh=self.sharding, ignored_params=kept_whole)
        register_fsdp_forward_method(lm, "hidden_states")
        for module in lm.modules():
            if isinstance(module, FSDPModule):
                # The loss is divided by the count of all ranks already: gradients are added as they are.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    def finish_gradients(self, lm: HybridLM) -> None:
        """Add the gradients that FSDP does not: of what stays whole on every rank."""
        gradients = [p.grad for p in lm.parameters() if not is_sharded(p) and p.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        self.add(together)
        for gradient, total in zip(gradients, together.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    @torch.no_grad()
    def clip_gradients(self, lm: HybridLM, most: float) -> Tensor:
        """The norm of the whole gradient, which is scaled down to `most` if it is larger."""
        squares: dict[tuple[bool, bool], list[Tensor]] = defaultdict(list)
        names = splits(lm.config) if self.tensor else {}
        for name, parameter in lm.named_parameters():
            if parameter.grad is not None:
                squares[is_sharded(parameter), name in names].append(
                    local(parameter.grad).double().square().sum()
                )
        zero = torch.zeros((), dtype=torch.float64, device=lm.device)
        sharded = torch.stack([sum(squares[True, split], zero) for split in (True, False)])
        self.add(sharded)
        of_mixers = sharded[0] + sum(squares[False, True], zero)
        if self.tensor is not None:
            dist.all_reduce(of_mixers, group=self.tensor.group)
        norm = (of_mixers + sharded[1] + sum(squares[False, False], zero)).sqrt()
        scale = torch.clamp(most / (norm + 1e-6), max=1.0)
        for parameter in lm.parameters():
            if parameter.grad is not None:
                local(parameter.grad).mul_(scale.to(local(parameter.grad).dtype))
        return norm

    def whole_parameters(self, lm: HybridLM) -> Iterator[tuple[str, Tensor]]:
        """Every parameter as it would be on one rank, one after the other, by name. All ranks ask together."""
        cuts = splits(lm.config)
        for name, parameter in sorted(lm.named_parameters()):
            yield name, self.whole(parameter.detach(), cuts.get(name))

    def whole(self, tensor: Tensor, split: Split | None) -> Tensor:
        """A parameter, or a tensor like it, of which this rank holds a part. `split`: how tensor ranks cut it."""
        held = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if self.tensor is None or split is None:
            return held
        of_ranks = [torch.empty_like(held) for _ in range(self.tensor.size)]
        dist.all_gather(of_ranks, held.contiguous(), group=self.tensor.group)
        return split.whole(of_ranks)
