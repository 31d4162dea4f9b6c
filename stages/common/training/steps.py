"""How a run is cut into optimizer steps, and a step into micro-batches."""

import math
from dataclasses import dataclass

from model.errors import UsageError


@dataclass(frozen=True)
class StepShape:
    """A run of `steps` steps, each of `sequences` rows of `seq_len` tokens, `micro_batch` rows at a time."""

    steps: int
    sequences: int
    micro_batch: int
    seq_len: int

    @classmethod
    def of(cls, tokens: int, batch_tokens: int, *, seq_len: int, micro_batch: int) -> "StepShape":
        """At least `tokens` tokens in whole steps. UsageError if a step does not come out as whole micro-batches."""
        micro_tokens = micro_batch * seq_len
        if batch_tokens % micro_tokens:
            nearest = max(1, round(batch_tokens / micro_tokens)) * micro_tokens
            raise UsageError(
                f"{batch_tokens} tokens a step are no whole number of micro-batches of "
                f"{micro_batch} x {seq_len} tokens",
                where="batch_tokens",
                remedy=f"pass --batch-tokens {nearest}, or another --micro-batch",
            )
        return cls(
            steps=math.ceil(tokens / batch_tokens),
            sequences=batch_tokens // seq_len,
            micro_batch=micro_batch,
            seq_len=seq_len,
        )

    @property
    def tokens_per_step(self) -> int:
        return self.sequences * self.seq_len

    @property
    def total_sequences(self) -> int:
        return self.steps * self.sequences

    @property
    def tokens(self) -> int:
        return self.steps * self.tokens_per_step
