"""Where documents begin and end in a batch of packed sequences, in the forms that the three mixers need.

Document ids are compared between neighbours only: a new document starts wherever the id changes, so ids may repeat
later in a row, and padding (id -1) is a document of its own.

Shapes: B batch, T tokens.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from model.errors import UsageError


@dataclass(frozen=True)
class Documents:
    """Packing of one batch. `runs_BT` counts documents from the left (int64); equal numbers, equal document."""

    runs_BT: Tensor

    @classmethod
    def from_ids(cls, document_ids_BT: Tensor, shape: torch.Size) -> "Documents | None":
        """None when every row is one document, which needs no resets anywhere."""
        if document_ids_BT.shape != shape:
            raise UsageError(
                f"document ids have shape {tuple(document_ids_BT.shape)}, the input ids {tuple(shape)}",
                remedy="give one document id a token",
            )
        changes = document_ids_BT[:, 1:] != document_ids_BT[:, :-1]
        if not bool(changes.any()):
            return None
        return cls(torch.nn.functional.pad(changes.long().cumsum(1), (1, 0)))

    def same_as_earlier(self, distance: int) -> Tensor:
        """[B, T - distance] bool: is token t + distance of the same document as token t?"""
        return self.runs_BT[:, distance:] == self.runs_BT[:, :-distance]

    @cached_property
    def runs_int32_BT(self) -> Tensor:
        """The runs as GPU kernels read them."""
        return self.runs_BT.to(torch.int32).contiguous()

    @cached_property
    def starts(self) -> tuple[Tensor, int]:
        """Where each document begins in all the rows laid end to end, with their length behind the last (int32), and the
        longest document's length."""
        begins_BT = torch.ones_like(self.runs_BT, dtype=torch.bool)
        begins_BT[:, 1:] = self.runs_BT[:, 1:] != self.runs_BT[:, :-1]
        starts = torch.nn.functional.pad(begins_BT.flatten().nonzero()[:, 0], (0, 1), value=begins_BT.numel())
        return starts.to(torch.int32), int(starts.diff().max())

    def attention_mask(self) -> Tensor:
        """[B, 1, T, T] bool: may the query (row) see the key (column)? Causal, and the same document."""
        same_BTT = self.runs_BT[:, :, None] == self.runs_BT[:, None, :]
        return same_BTT.tril_()[:, None]
