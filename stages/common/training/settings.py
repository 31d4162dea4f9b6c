"""Settings that every training stage shares. No torch here."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from model.precision.scaling import SCALINGS, Scaling
from stages.common.config import Arrangement, Cosmetic, DataPaths, Panel, StageConfig, parse_names
from stages.common.sizes import ByteSize, Size

LayerKind = Literal["mamba", "attention", "mlp"]


class OptimizerSettings(StageConfig):
    """AdamW and the norm of its gradients. The learning rate is a stage's own."""

    weight_decay: Annotated[float, Panel("Optimizer")] = Field(
        0.1,
        ge=0,
        description="Decay of matrices; vectors (norms, biases, A_log, D, dt_bias) are never decayed.",
    )
    beta1: Annotated[float, Panel("Optimizer")] = Field(
        0.9, ge=0, lt=1, description="Decay of the first moment."
    )
    beta2: Annotated[float, Panel("Optimizer")] = Field(
        0.95, ge=0, lt=1, description="Decay of the second moment."
    )
    epsilon: Annotated[float, Panel("Optimizer")] = Field(
        1e-8, gt=0, description="Added to the root of the moment."
    )
    clip: Annotated[float, Panel("Optimizer")] = Field(
        1.0, gt=0, description="Largest norm of a step's gradient."
    )


class ScheduleSettings(StageConfig):
    """A learning rate that rises, stays and decays, both linearly, over shares of the run's tokens."""

    learning_rate: Annotated[float, Panel("Schedule")] = Field(gt=0, description="Peak learning rate.")
    warmup_fraction: Annotated[float, Panel("Schedule")] = Field(
        0.05, ge=0, le=1, description="Share of the tokens over which the learning rate rises from zero."
    )
    decay_fraction: Annotated[float, Panel("Schedule")] = Field(
        0.95, ge=0, le=1, description="Share of the tokens, at the end, over which it decays."
    )
    final_learning_rate: Annotated[float | None, Panel("Schedule")] = Field(
        None, gt=0, description="Where the decay ends; by default a tenth of the peak."
    )

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if self.warmup_fraction + self.decay_fraction > 1 + 1e-9:
            raise ValueError("warmup_fraction and decay_fraction together are more than 1")
        if self.final_learning_rate is not None and self.final_learning_rate > self.learning_rate:
            raise ValueError("final_learning_rate is above learning_rate")
        return self


class TrainingSettings(OptimizerSettings):
    """What a run of any training stage needs besides its objective, its learning rate and its amount of tokens."""

    data: DataPaths = Field(min_length=1, description="Packed dataset, with its weight in the blend.")
    micro_batch: Annotated[int, Arrangement()] = Field(
        1, gt=0, description="Sequences in one forward and backward pass."
    )
    precision: Annotated[Literal["float32", "bfloat16", "fp8", "fp8-tensor"], Arrangement()] = Field(
        "float32",
        description="Of the matrix products; masters, optimizer and scan stay in float32. fp8 has scales of 128 x 128 "
        "blocks, fp8-tensor of whole tensors; both are for the inner blocks' projections, the rest is bfloat16.",
    )
    kernels: Annotated[Literal["auto", "fused", "pytorch"], Arrangement()] = Field(
        "auto",
        description="fused: those of a GPU, or an error that says what is missing; auto takes them where it can.",
    )
    dtype: Literal["float32", "bfloat16"] | None = Field(
        None, description="Of the written weights; by default float32 from a CPU and bfloat16 from a GPU."
    )
    shard_size: ByteSize = Field(
        5_000_000_000, gt=0, description="Bytes of tensors in a file of the written weights, at most."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one.")
    seed: int = Field(0, ge=0, lt=2**63, description="Of the fresh weights and the data order.")

    context_parallel: Annotated[int, Arrangement(), Panel("Parallelism")] = Field(
        1, gt=0, description="Ranks that share the tokens of a row (torchrun)."
    )
    tensor_parallel: Annotated[int, Arrangement(), Panel("Parallelism")] = Field(
        1, gt=0, description="Ranks that share heads and inner widths of the mixers (torchrun)."
    )
    recompute: Annotated[
        tuple[LayerKind, ...], BeforeValidator(parse_names), Cosmetic(), Panel("Parallelism")
    ] = Field(
        (),
        description="Kinds of blocks, such as mamba,mlp, whose activations are computed again instead of kept: "
        "less memory, the same bits.",
    )

    validate_every: Annotated[Size, Panel("Validation")] = Field(
        0, ge=0, description="Steps between validations; 0 validates at the end alone."
    )
    validate_first: Annotated[bool, Panel("Validation")] = Field(
        False,
        description="Also validate before the first step, as at the end; the figures are named ..._before.",
    )
    validation_tokens: Annotated[Size, Panel("Validation")] = Field(
        0,
        ge=0,
        description="Held-out tokens of a validation on the way, evenly spread; 0 takes all, as the end does.",
    )

    save_seconds: Annotated[float, Cosmetic(), Panel("Run")] = Field(
        300.0, ge=0, description="Seconds between saved states, from which an interrupted run continues."
    )
    log_every: Annotated[int, Cosmetic(), Panel("Run")] = Field(
        10, gt=0, description="Steps between logged lines."
    )
    tensorboard: Annotated[bool, Cosmetic(), Panel("Run")] = Field(
        True, description="Also log for TensorBoard."
    )

    @property
    def activations(self) -> Literal["float32", "bfloat16"]:
        """dtype of activations, and of the products that are not in FP8."""
        return "float32" if self.precision == "float32" else "bfloat16"

    @property
    def fp8(self) -> Scaling | None:
        """What shares a scale in FP8; None: no product is in FP8."""
        return SCALINGS.get(self.precision)

    def refuse_fp8(self, others: str) -> None:
        """ValueError with FP8: where a loss compares its products with others, which are computed without it."""
        if self.fp8:
            raise ValueError(
                f"precision {self.precision}: {others} computed without FP8; pass --precision bfloat16"
            )
