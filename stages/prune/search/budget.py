"""What a model of a shape takes when it is served, and whether that is within a budget. No torch here.

Memory is the report's sum (section 4.2): bfloat16 weights, and for `batch` sequences of `context` tokens keys and values,
conv states and SSM states. The latter are counted in float32, as vLLM and this core keep them; Model Optimizer's formula
takes two bytes.
"""

from dataclasses import dataclass

from model.config import HybridConfig
from model.counting import conv_state_bytes, count_parameters, kv_cache_bytes, ssm_state_bytes
from stages.common.sizes import format_size

GIB = 2**30


@dataclass(frozen=True)
class Footprint:
    """Parameters, and bytes by kind."""

    parameters: int
    kv_bytes: int
    ssm_bytes: int
    conv_bytes: int

    @classmethod
    def of(cls, config: HybridConfig, context: int, batch: int) -> "Footprint":
        return cls(
            count_parameters(config).total,
            kv_cache_bytes(config, context, batch),
            ssm_state_bytes(config, batch),
            conv_state_bytes(config, batch),
        )

    @property
    def weights_bytes(self) -> int:
        return 2 * self.parameters

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.ssm_bytes + self.conv_bytes


@dataclass(frozen=True)
class Budget:
    """Most parameters and most bytes; None: any. `context` and `batch` are what the bytes are counted at."""

    parameters: int | None
    memory_bytes: int | None
    context: int
    batch: int

    def footprint(self, config: HybridConfig) -> Footprint:
        return Footprint.of(config, self.context, self.batch)

    def excess(self, footprint: Footprint) -> float:
        """The largest ratio of what is taken to what is allowed, less one: positive where the budget is not met."""
        ratios = []
        if self.parameters is not None:
            ratios.append(footprint.parameters / self.parameters)
        if self.memory_bytes is not None:
            ratios.append(footprint.total_bytes / self.memory_bytes)
        return max(ratios, default=1.0) - 1.0

    def shortfall(self, footprint: Footprint) -> str:
        """In words, by how much a footprint misses the budget."""
        words = []
        if self.parameters is not None and footprint.parameters > self.parameters:
            words.append(
                f"has {footprint.parameters:,} parameters, {footprint.parameters - self.parameters:,} more than "
                f"--parameters {format_size(self.parameters)}"
            )
        if self.memory_bytes is not None and footprint.total_bytes > self.memory_bytes:
            words.append(
                f"takes {gib(footprint.total_bytes)} at {self.context} tokens, "
                f"{gib(footprint.total_bytes - self.memory_bytes)} more than --memory {gib(self.memory_bytes)}"
            )
        return " and ".join(words)


def gib(count: float) -> str:
    """Bytes in the unit that the report counts in, or in MiB where that would be next to nothing."""
    return f"{count / GIB:.2f} GiB" if count >= GIB / 10 else f"{count / 2**20:.2f} MiB"
