"""Settings of `nano2 prune`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.common.config import DataPaths, InputPath, ModelPath, Panel
from stages.common.distillation.settings import DistillationSettings
from stages.common.evaluation.settings import EvaluationSettings
from stages.common.preset import PlannedRows, PresetSettings
from stages.common.sizes import ByteSize, Size
from stages.common.training.settings import ScheduleSettings, TrainingSettings
from stages.prune.importance.settings import ImportanceSettings
from stages.prune.search.blocks import Blocks
from stages.prune.search.budget import Budget
from stages.prune.search.space import AXES, GIVEN_SHAPE, GivenShape, Sizes

_SHAPE, _BUDGET, _TRIALS = Panel("Shape"), Panel("Budget"), Panel("Trials of a search")


class PruneConfig(
    PresetSettings,
    PlannedRows,
    ImportanceSettings,
    DistillationSettings,
    ScheduleSettings,
    TrainingSettings,
):
    """Make a model smaller: Minitron for hybrids (report, section 4).

    Blocks, embedding channels, MLP neurons, Mamba heads, their channels and attention heads go by their importance, which is
    measured in forward passes over -d, or read from --importance. One number a width or depth is one shape. Ranges are a
    search: of the shapes that fit the budget those that take the most memory are tried, first in depth, then in width, each
    with a short distillation, and the best is kept.
    """

    model: ModelPath = Field(description="Model to prune; the teacher of the trials.")
    data: DataPaths = Field((), description="Packed dataset, with its weight in the blend.")
    importance: InputPath | None = Field(
        None,
        description="importance.safetensors of an earlier run on the same model, instead of measuring it.",
    )

    dtype: Literal["float32", "bfloat16"] | None = Field(
        None,
        description="Of the weights; by default as stored, and of distilled ones float32 from a CPU, bfloat16 from a GPU.",
    )

    layers: Annotated[Sizes, _SHAPE] = Field(
        (), description="Blocks that stay; by default, as all of these, as many as there are."
    )
    hidden: Annotated[Sizes, _SHAPE] = Field((), description="Embedding channels.")
    ffn: Annotated[Sizes, _SHAPE] = Field((), description="Neurons of an MLP.")
    mamba_heads: Annotated[Sizes, _SHAPE] = Field((), description="Mamba heads, a multiple of the groups.")
    mamba_head_dim: Annotated[Sizes, _SHAPE] = Field((), description="Channels of a Mamba head.")
    attention_heads: Annotated[Sizes, _SHAPE] = Field(
        (), description="Query heads, a multiple of the key/value heads."
    )
    keep_mamba: Annotated[int, _SHAPE] = Field(0, ge=0, description="Mamba blocks that stay at least.")
    keep_mlp: Annotated[int, _SHAPE] = Field(0, ge=0, description="MLP blocks that stay at least.")
    keep_attention: Annotated[int, _SHAPE] = Field(
        0, ge=0, description="Attention blocks that stay at least."
    )
    shapes: Annotated[tuple[Annotated[GivenShape, GIVEN_SHAPE], ...], _SHAPE] = Field(
        (),
        description="Shapes to try, instead of the largest that fit; layers=56,hidden=4480 leaves the rest as it is.",
    )

    parameters: Annotated[Size | None, _BUDGET] = Field(None, gt=0, description="Most parameters.")
    memory: Annotated[ByteSize | None, _BUDGET] = Field(
        None,
        gt=0,
        description="Most bytes of bfloat16 weights and of the states of --batch sequences of --context tokens.",
    )
    context: Annotated[Size, _BUDGET] = Field(131072, gt=0, description="Tokens of a sequence, for --memory.")
    batch: Annotated[int, _BUDGET] = Field(
        1, gt=0, description="Sequences served together, for --memory and --min-speedup."
    )
    min_speedup: Annotated[float | None, _BUDGET] = Field(
        None,
        gt=0,
        description="Least tokens a second in decoding, as a multiple of the model's, measured here.",
    )

    top_k: Annotated[int, _TRIALS] = Field(3, ge=1, description="Shapes to try, the largest that fit first.")
    distill_tokens: Annotated[Size, _TRIALS] = Field(
        0, ge=0, description="Tokens on which each is distilled; 0 compares them as they are cut."
    )
    batch_tokens: Annotated[Size | None, _TRIALS] = Field(
        None, gt=0, description="Tokens of one optimizer step; by default one micro-batch."
    )
    learning_rate: Annotated[float, Panel("Schedule")] = Field(
        1e-4, gt=0, description="Peak learning rate of a trial."
    )
    evaluation: Annotated[EvaluationSettings | None, _TRIALS] = Field(
        None,
        description="Settings of nano2 eval, such as tasks=nano2_base, to compare the trials by; else the held-out loss.",
    )

    @property
    def axes(self) -> dict[str, tuple[int, ...]]:
        """The numbers given for each field of a shape."""
        return {name: getattr(self, name) for name in AXES}

    @property
    def least(self) -> Blocks:
        return Blocks(self.keep_mamba, self.keep_mlp, self.keep_attention)

    @property
    def budget(self) -> Budget:
        return Budget(self.parameters, self.memory, self.context, self.batch)

    @property
    def compares(self) -> bool:
        """Whether there may be several shapes to choose from."""
        return len(self.shapes) > 1 or (
            not self.shapes and any(len(set(sizes)) > 1 for sizes in self.axes.values())
        )

    @model_validator(mode="after")
    def _asks_for_something(self) -> "PruneConfig":
        if not self.shapes and not any(self.axes.values()):
            raise ValueError(
                "nothing is asked to go: give --layers, --hidden, --ffn, --mamba-heads or --shapes"
            )
        if not self.data:
            if self.importance is None:
                raise ValueError("importance is measured on data: give -d, or --importance of an earlier run")
            if self.distill_tokens:
                raise ValueError("--distill-tokens needs data: give -d")
            if self.compares and self.evaluation is None:
                raise ValueError(
                    "several shapes are compared on held-out data or tasks: give -d or --evaluation"
                )
        return self
