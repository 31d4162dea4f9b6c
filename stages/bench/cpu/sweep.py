"""What is measured: the settings of each side, full and quick. No torch."""

from dataclasses import dataclass, replace
from typing import Literal

Side = Literal["nano2", "transformers"]
SIDES: tuple[Side, ...] = ("nano2", "transformers")
PRESET = "mini-8m"


@dataclass(frozen=True)
class TrainSetting:
    """One way to run a training step. `attention` is transformers' implementation; this core has one."""

    side: Side
    length: int
    batch: int
    precision: str
    attention: str

    @property
    def tokens(self) -> int:
        return self.batch * self.length


@dataclass(frozen=True)
class DecodeSetting:
    """One way to continue a prompt. `precision` is that of the weights; `method` is how the tokens are asked for."""

    side: Side
    precision: str
    method: str


@dataclass(frozen=True)
class Sweep:
    """All settings of a run, and how often the best of them are measured again.

    batches: sizes to try by sequence length. train_precisions: those of `precisions` to train in; decoding tries all.
    rounds: how often both sides' best settings take turns. steps: timed training steps of one measurement, after one that
    is not timed.
    """

    batches: dict[int, tuple[int, ...]]
    precisions: tuple[str, ...]
    train_precisions: tuple[str, ...]
    attentions: tuple[str, ...]
    decode_methods: tuple[str, ...]
    new_tokens: int
    rounds: int
    steps: int

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(self.batches)

    def without_slow_training(self, matmul_rates: dict[str, float]) -> "Sweep":
        """Without the precisions in which PyTorch's matrix products (FLOP/s) are not a quarter as fast as in the fastest.

        Training steps are made of products, and a side gains nothing by taking them in a wider precision (as ours does), so
        neither can be at its best there; where bfloat16 is only emulated it would take most of the run's time.
        """
        fastest = max(matmul_rates.values())
        kept = tuple(p for p in self.train_precisions if matmul_rates[p] >= fastest / 4)
        return replace(self, train_precisions=kept)

    def training(self, length: int, precision: str) -> list[TrainSetting]:
        """The settings of both sides, in turns. Attention is varied at the smallest batch alone: it is one of the
        pattern's many blocks, and what wins there wins at every batch."""
        settings = []
        for batch in self.batches[length]:
            settings.append(TrainSetting("nano2", length, batch, precision, "sdpa"))
            for attention in self.attentions if batch == min(self.batches[length]) else self.attentions[:1]:
                settings.append(TrainSetting("transformers", length, batch, precision, attention))
        return settings

    def decoding(self, precision: str) -> list[DecodeSetting]:
        theirs = [DecodeSetting("transformers", precision, method) for method in self.decode_methods]
        return [DecodeSetting("nano2", precision, "generate"), *theirs]


FULL = Sweep(
    batches={512: (1, 2, 4, 8), 2048: (1, 2, 4)},
    precisions=("float32", "bfloat16"),
    train_precisions=("float32", "bfloat16"),
    attentions=("sdpa", "eager"),
    decode_methods=("generate", "loop"),
    new_tokens=128,
    rounds=3,
    steps=3,
)
QUICK = Sweep(
    batches={512: (4,), 2048: (1,)},
    precisions=("float32",),
    train_precisions=("float32",),
    attentions=("sdpa",),
    decode_methods=("generate",),
    new_tokens=32,
    rounds=2,
    steps=2,
)
PROMPT_TOKENS = 64
