"""Context parallelism without other ranks: the pieces of a row, one after the other in one process.

Every piece is read as its rank would read it. What a rank needs of those before it is there by then; in the backward pass,
which autograd takes from the last piece to the first, what it needs of those after it. The work is that of all ranks;
nothing is sent, and nobody waits.
"""

import torch
from torch import Tensor

from model.hybrid import HybridLM
from model.parallel.context import Context
from stages.common.training.batches import Batch
from stages.common.training.objectives import Loss, cross_entropy


class Turn(Context):
    """One of `size` ranks.

    gathered, added: by the number of a collective, what the ranks gave so far, shared by all. document_ids_BS: of the whole
    rows, which a rank asks for at once.
    """

    document_ids_BS: Tensor
    gathered: list[Tensor]
    added: list[Tensor]
    calls: dict[str, int]

    def __init__(
        self, rank: int, size: int, document_ids_BS: Tensor, gathered: list[Tensor], added: list[Tensor]
    ) -> None:
        vars(self).update(
            rank=rank,
            size=size,
            document_ids_BS=document_ids_BS,
            gathered=gathered,
            added=added,
            calls={"gather": 0, "add": 0},
        )

    def gather(self, piece: Tensor) -> Tensor:
        pieces = self._of_call("gather", self.gathered, piece, (self.size, *piece.shape))
        pieces[self.rank] = piece.detach()
        # A rank may keep this for its backward pass, by which time all of it is there: the same memory, and for autograd
        # not the tensor that is written to.
        return pieces.data

    def add(self, pieces_r: Tensor) -> Tensor:
        return self._of_call("add", self.added, pieces_r, pieces_r.shape).add_(pieces_r)[self.rank].clone()

    def row(self, piece_BT: Tensor) -> Tensor:  # noqa: ARG002
        return self.document_ids_BS

    def _of_call(self, name: str, tensors: list[Tensor], like: Tensor, shape: tuple[int, ...]) -> Tensor:
        number = self.calls[name]
        self.calls[name] += 1
        if number == len(tensors):
            tensors.append(like.new_zeros(shape))
        return tensors[number]


def cross_entropy_in_pieces(lm: HybridLM, batch: Batch, pieces: int) -> Loss:
    """As `cross_entropy`, of the same rows in so many pieces. Nothing may be computed again in the backward pass."""
    gathered: list[Tensor] = []
    added: list[Tensor] = []
    losses = []
    for rank in range(pieces):
        lm.context = turn = Turn(rank, pieces, batch.document_ids_BT, gathered, added)
        losses.append(cross_entropy(lm, batch.map(turn.cut)).total)
    lm.context = None
    return Loss(torch.stack(losses).sum())
