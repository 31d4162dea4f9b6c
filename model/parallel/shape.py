"""How many ranks lie along each axis of a mesh, before any of them is there. No torch here."""

from dataclasses import dataclass

from model.errors import UsageError


@dataclass(frozen=True)
class MeshShape:
    """data: ranks with rows of their own. context: those that share a row's tokens. tensor: those that share the mixers."""

    data: int = 1
    context: int = 1
    tensor: int = 1

    @classmethod
    def of(cls, ranks: int, *, context: int = 1, tensor: int = 1) -> "MeshShape":
        """So many ranks. UsageError if they cannot be arranged so."""
        data, rest = divmod(ranks, context * tensor)
        if rest:
            raise UsageError(
                f"{ranks} ranks are no whole number of groups of {context} x {tensor}",
                where="context_parallel, tensor_parallel",
                remedy="start another number of ranks with torchrun, or lower --context-parallel or --tensor-parallel",
            )
        return cls(data, context, tensor)

    @property
    def ranks(self) -> int:
        return self.data * self.context * self.tensor

    @property
    def sharding(self) -> int:
        """Ranks that hold a model's parameters together, and read different tokens."""
        return self.data * self.context

    def piece(self, length: int, memory: int = 0) -> int:
        """Tokens that a rank reads of a row of `length`. UsageError if there are no equal pieces, or pieces that are shorter
        than the `memory` of a convolution."""
        piece, rest = divmod(length, self.context)
        if rest:
            raise UsageError(
                f"rows of {length} tokens have no {self.context} equal pieces",
                where="context_parallel",
                remedy="pass another --context-parallel, or prepare rows of a multiple of it",
            )
        if self.context > 1 and piece < memory:
            raise UsageError(
                f"pieces of {piece} tokens are shorter than what a convolution remembers ({memory})",
                where="context_parallel",
                remedy="pass a smaller --context-parallel",
            )
        return piece
