"""Settings of `nano2 bench train`."""

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, JsonValue, field_validator, model_validator

from stages.bench.settings import Counts
from stages.common.config import DataPaths, ModelPath, Panel, StageConfig, parse_names
from stages.common.sizes import Size
from stages.common.training.settings import LayerKind

NOTHING = "none"
DEFAULT_SEQ_LEN = 2048
Precision = Literal["float32", "bfloat16", "fp8", "fp8-tensor"]
WIDE = ("float32", "bfloat16")


class TrainBenchConfig(StageConfig):
    """Measure training steps of one shape: tokens and FLOPs per second, memory, where the time goes.

    The steps are those of the training loop, at each --precision, --micro-batch and --recompute; the fastest counts. With
    --against hf transformers trains the same weights on the same rows, at its own best micro-batch, precision, attention
    and checkpointing, the sides in turns. Every measurement is a fresh process. Leave the machine alone meanwhile.
    """

    preset: Annotated[str | None, Panel("Model")] = Field(
        None, description="Name of a shape: mini-8m, nemotron-h-4b, ..."
    )
    shape: Annotated[dict[str, JsonValue], Panel("Model")] = Field(
        {}, description="Fields of the shape to change, such as hidden_size=256."
    )
    model: Annotated[ModelPath | None, Panel("Model")] = Field(
        None, description="Model to train, instead of a preset with fresh weights."
    )

    batch_tokens: Size = Field(gt=0, description="Tokens of one optimizer step, the same at every point.")
    seq_len: Size | None = Field(
        None, ge=16, description=f"Tokens of a row; by default those of --data, else {DEFAULT_SEQ_LEN}."
    )
    data: DataPaths = Field(
        (), description="Packed dataset, with its weight in the blend; else random tokens."
    )
    documents: int | None = Field(
        None,
        ge=1,
        description="Documents in a row of random tokens, by default 1. With --data, 1 reads each row as one.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one.")
    threads: int | None = Field(
        None, gt=0, description="Threads of either side on a CPU; those of PyTorch if not set."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Of the fresh weights and the rows.")

    precision: Annotated[
        tuple[Precision, ...], BeforeValidator(parse_names), Field(min_length=1), Panel("Sweep")
    ] = Field(
        ("float32",),
        description="Of our matrix products, such as bfloat16,fp8; the others are compared with the first.",
    )
    micro_batch: Annotated[Counts, Panel("Sweep")] = Field(
        (1, 2, 4), description="Rows in one forward and backward pass, separated by commas."
    )
    recompute: Annotated[
        tuple[str, ...], BeforeValidator(parse_names), Field(min_length=1), Panel("Sweep")
    ] = Field(
        (NOTHING,),
        description="Kinds of blocks computed again in the backward pass, such as none,mlp,mamba+mlp: ours alone.",
    )
    against: Annotated[Literal["hf"] | None, Panel("Sweep")] = Field(
        None, description="hf: also transformers' NemotronHForCausalLM, as installed."
    )
    fsdp: Annotated[bool, Panel("Sweep")] = Field(
        False,
        description="Also show what FSDP2 costs: our best point with its parameters sharded over one rank.",
    )
    pieces: Annotated[
        tuple[Annotated[int, Field(ge=2)], ...], BeforeValidator(parse_names), Panel("Sweep")
    ] = Field(
        (),
        description="Also show what context parallelism adds: each row in so many pieces, such as 2,4, one after the other.",
    )
    warmup: Annotated[int, Panel("Sweep")] = Field(
        1, ge=1, description="Steps of a measurement that are not timed."
    )
    steps: Annotated[int, Panel("Sweep")] = Field(3, ge=1, description="Timed steps behind them.")
    rounds: Annotated[int, Panel("Sweep")] = Field(
        2, ge=0, description="How often the best two points of a side are measured again, the sides in turns."
    )

    profile: Annotated[bool, Panel("Result")] = Field(
        False, description="Write a trace of one step of each side, and its longest operations."
    )
    result: Annotated[Path | None, Panel("Result")] = Field(
        None,
        description="Result file to write the figures to as well, on the way too; runs of another --name in it stay.",
    )
    name: Annotated[str, Panel("Result")] = Field(
        "",
        pattern=r"^[a-z0-9_]*$",
        description="Of the run; ends the names of its metrics: hf_ratio is hf_ratio_4b with --name 4b.",
    )

    @field_validator("recompute")
    @classmethod
    def _are_kinds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = get_args(LayerKind)
        for kinds in map(_kinds, value):
            if unknown := [kind for kind in kinds if kind not in known]:
                raise ValueError(
                    f"{unknown[0]!r} is no kind of block: {NOTHING}, or {', '.join(known)}, joined by +"
                )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainBenchConfig":
        if (self.preset is None) == (self.model is None):
            raise ValueError("give either preset or model")
        if self.model is not None and self.shape:
            raise ValueError("shape changes a preset: the shape of a model is its own")
        if self.data and self.seq_len is not None:
            raise ValueError("seq_len is for random tokens: rows of data are as long as they were packed")
        if self.data and self.documents not in (None, 1):
            raise ValueError("documents is 1 with data, or left out: they lie as they were packed")
        if (
            not self.data
            and self.documents is not None
            and self.documents > (self.seq_len or DEFAULT_SEQ_LEN)
        ):
            raise ValueError("more documents than tokens in a row")
        if len(self.precision) > 1 and self.precision[0] not in WIDE:
            raise ValueError(f"FP8 is compared with what comes first: name {' or '.join(WIDE)} there")
        for name in ("micro_batch", "recompute", "precision", "pieces"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"a value is named twice in {name}")
        return self

    @property
    def recomputed(self) -> tuple[tuple[str, ...], ...]:
        """The kinds of each value of `recompute`."""
        return tuple(map(_kinds, self.recompute))


def _kinds(value: str) -> tuple[str, ...]:
    return () if value == NOTHING else tuple(value.split("+"))
