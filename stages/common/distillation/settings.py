"""What a distillation minimizes. No torch here."""

from typing import Annotated

from pydantic import Field

from stages.common.config import Panel, StageConfig


class DistillationSettings(StageConfig):
    """Forward KL on logits alone by default, at temperature 1 (report, section 4.3; the temperature is not stated there)."""

    temperature: Annotated[float, Panel("Loss")] = Field(
        1.0, gt=0, le=100, description="Of both models' logits; the divergence is multiplied by its square."
    )
    ce_weight: Annotated[float, Panel("Loss")] = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of next-token cross-entropy in the loss; the rest is the divergence from the teacher.",
    )
