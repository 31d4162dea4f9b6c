"""How many blocks of each kind a model of some depth has: counted in a pattern, or estimated before importance is known."""

from dataclasses import dataclass

from model.config import ATTENTION, MAMBA, MLP


@dataclass(frozen=True)
class Blocks:
    """Counts by kind."""

    mamba: int
    mlp: int
    attention: int

    @classmethod
    def of(cls, pattern: str) -> "Blocks":
        return cls(pattern.count(MAMBA), pattern.count(MLP), pattern.count(ATTENTION))

    @property
    def total(self) -> int:
        return self.mamba + self.mlp + self.attention

    @property
    def by_letter(self) -> dict[str, int]:
        return {MAMBA: self.mamba, MLP: self.mlp, ATTENTION: self.attention}

    @property
    def pattern(self) -> str:
        """A pattern with these counts, for formulas that do not ask for the order."""
        return "".join(letter * count for letter, count in self.by_letter.items())

    def __str__(self) -> str:
        return " ".join(f"{count}{letter}" for letter, count in self.by_letter.items())


def estimate(whole: Blocks, least: Blocks, depth: int) -> Blocks:
    """About what stays at `depth`: each kind loses the same share of the blocks that it may lose (largest remainder). Exact
    where nothing is left to choose."""
    spare = {kind: getattr(whole, kind) - getattr(least, kind) for kind in vars(whole)}
    lost = whole.total - depth
    shares = {kind: lost * count / max(1, sum(spare.values())) for kind, count in spare.items()}
    gone = {kind: int(share) for kind, share in shares.items()}
    by_remainder = sorted(shares, key=lambda kind: gone[kind] - shares[kind])
    for kind in by_remainder[: lost - sum(gone.values())]:
        gone[kind] += 1
    return Blocks(**{kind: count - gone[kind] for kind, count in vars(whole).items()})
