"""Settings of `nano2 merge`."""

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from stages.common.config import WEIGHTED_PATH, Panel, Short, WeightedPath, parse_names
from stages.common.evaluation.settings import TASKS, EvaluationSettings, TaskName
from stages.common.preset import PresetSettings

_SWEEP = Panel("Sweep")

Alpha = Annotated[float, Field(ge=0, le=1)]


class MergeConfig(PresetSettings, EvaluationSettings):
    """Average the weights of models of one shape and one tokenizer (report, sections 3 and 4).

    Any number of models by their weights, or two by --alpha, the share of the second. With --alphas and --tasks each of
    these shares is evaluated, and the best is kept; the settings of the tasks are those of nano2 eval. Models are read and
    written in pieces, so that they may be larger than the memory.
    """

    model: Annotated[tuple[WeightedPath, ...], Short("m"), WEIGHTED_PATH] = Field(
        min_length=2, description="Model, with its weight in the average."
    )
    method: Literal["linear", "slerp"] = Field(
        "linear", description="slerp turns each tensor of the first of two models into that of the second."
    )
    normalize: bool = Field(True, description="Divide the weights by their sum.")
    alpha: Alpha | None = Field(
        None, description="Share of the second of two models, instead of weights; the first has the rest."
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="Of the written weights; by default each tensor's own."
    )

    alphas: Annotated[tuple[Alpha, ...], BeforeValidator(parse_names), _SWEEP] = Field(
        (), description="Shares of the second of two models to evaluate, such as 0,0.25,0.5,0.75,1."
    )
    tasks: Annotated[tuple[TaskName, ...], BeforeValidator(parse_names), TASKS] = Field(
        (),
        description="Names of tasks, groups or tags, YAML files, or jsonl files of chats; separated by commas.",
    )
    best_by: Annotated[tuple[str, ...], _SWEEP] = Field(
        (),
        description="Figure that decides, such as nano2_piqa/acc, or several, by their mean; by default each task's first.",
    )

    @property
    def weights(self) -> tuple[float, ...]:
        """Of each model, as it is multiplied."""
        if self.alpha is not None:
            return 1 - self.alpha, self.alpha
        given = [item.weight for item in self.model]
        total = math.fsum(given) if self.normalize else 1.0
        return tuple(weight / total for weight in given)

    @model_validator(mode="after")
    def _check_pair(self) -> "MergeConfig":
        by_share = self.alpha is not None or bool(self.alphas)
        if self.alpha is not None and self.alphas:
            raise ValueError("alpha and alphas exclude each other")
        if len(self.model) != 2 and (by_share or self.method == "slerp"):
            name = "slerp" if self.method == "slerp" else "alphas" if self.alphas else "alpha"
            raise ValueError(f"{name} is for two models, and there are {len(self.model)}")
        if by_share and any(item.weight != 1 for item in self.model):
            raise ValueError("alpha takes the place of weights: leave them out")
        if not self.normalize and (by_share or self.method == "slerp"):
            raise ValueError("weights as they are given are for the linear method, without alpha")
        return self

    @model_validator(mode="after")
    def _check_sweep(self) -> "MergeConfig":
        if bool(self.alphas) != bool(self.tasks):
            raise ValueError("alphas are compared by tasks: give both, or neither")
        if len(set(self.alphas)) < len(self.alphas):
            raise ValueError("a share is named twice in alphas")
        if not self.alphas:
            asked = {
                name: field for name, field in EvaluationSettings.model_fields.items() if name != "tasks"
            }
            for name, field in {**asked, "best_by": type(self).model_fields["best_by"]}.items():
                if getattr(self, name) != field.default:
                    raise ValueError(f"{name} is for the evaluation of a sweep: add --alphas and --tasks")
        return self
