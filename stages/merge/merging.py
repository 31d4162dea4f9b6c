"""The tensors of a merge, made when they are asked for: a piece of each model in memory at a time."""

from collections.abc import Iterator, Sequence
from typing import Literal, NoReturn

import torch
from torch import Tensor

from model.artifact.safetensors_header import TensorInfo
from model.errors import ArtifactError
from stages.merge.arithmetic import inner_product, is_within, slerp_weights, weighted_sum
from stages.merge.sources import Sources

PIECE = 1 << 17
"""Elements of a tensor that are merged at a time, few enough to stay in a CPU's cache."""

Method = Literal["linear", "slerp"]


class Merge:
    """One merge of models. weights: of each model; slerp takes the second's as the share alpha.

    tensors: what it makes, by name. dtype: what config.json says of it.
    """

    def __init__(
        self, sources: Sources, method: Method, weights: Sequence[float], dtype: torch.dtype | None = None
    ) -> None:
        self._sources = sources
        self._method = method
        self._given = weights
        self._dtype = dtype
        self.dtype = dtype or sources.dtype
        self.tensors = {
            name: TensorInfo.of(str(self._dtype_of(name)).removeprefix("torch."), sources.shape(name))
            for name in sources.names
        }

    def pieces(self, name: str) -> Iterator[Tensor]:
        """A tensor's flat content, in order. ArtifactError where a model holds, or the merge makes, what is not finite."""
        weights, dtype = self._weights_of(name), self._dtype_of(name)
        for span, parts in self._read(name):
            merged = weighted_sum(parts, weights)
            if not is_within(merged, dtype):
                self._refuse(name, span)
            yield merged.to(dtype)

    def whole(self, name: str) -> Tensor:
        """A tensor in its shape."""
        return torch.cat(list(self.pieces(name))).reshape(self.tensors[name].shape)

    def _read(self, name: str) -> Iterator[tuple[slice, list[Tensor]]]:
        """Piece by piece, where it lies and that of each model."""
        count = self.tensors[name].count
        for start in range(0, count, PIECE):
            span = slice(start, min(start + PIECE, count))
            yield span, [model.elements(name, span) for model in self._sources.models]

    def _refuse(self, name: str, span: slice) -> NoReturn:
        """What is not finite in the merge is not finite in a model, or was made so."""
        for model in self._sources.models:
            model.elements(name, span, require_finite=True)
        raise ArtifactError(
            f"the merge of tensor {name} exceeds the range of {self.tensors[name].dtype}",
            where=str(self._sources.models[0].directory),
            remedy="choose a --dtype of more range, or other weights",
        )

    def _weights_of(self, name: str) -> Sequence[float]:
        if self._method == "linear":
            return self._given
        dot = square_one = square_other = 0.0
        for _, (one, other) in self._read(name):
            dot += inner_product(one, other)
            square_one += inner_product(one, one)
            square_other += inner_product(other, other)
        return slerp_weights(dot, square_one, square_other, self._given[1])

    def _dtype_of(self, name: str) -> torch.dtype:
        """Each tensor's own, the widest of the models'; a model may keep some in more digits than the rest."""
        if self._dtype is not None:
            return self._dtype
        first, *others = (model.dtype(name) for model in self._sources.models)
        for other in others:
            first = torch.promote_types(first, other)
        return first
