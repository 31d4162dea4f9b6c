"""Settings of `nano2 verify`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from stages.common.config import ModelPath, StageConfig
from stages.common.sizes import Size


class VerifyConfig(StageConfig):
    """Compare this core with transformers on a model: same files, same tokens, float32, CPU.

    Logits, decoding step by step against one pass, and every layer on the same input. Exits with 3 and names the first
    layer that differs. Both programs hold the weights in float32: --plan says how much memory that takes.
    """

    model: ModelPath = Field(description="Model to compare.")
    against: Literal["transformers"] = Field("transformers", description="Program to compare with.")
    tokens: Size = Field(256, ge=2, description="Tokens to run; more than one scan chunk shows more.")
    text: Path | None = Field(
        None,
        description="Text file to take the tokens from, through the model's tokenizer; else random tokens.",
    )
    decode_steps: Size = Field(
        32, ge=1, description="How many of the last tokens are also decoded one by one."
    )
    tolerance: float = Field(
        1e-4,
        gt=0,
        description="Largest relative error of a layer, and difference of logits relative to the largest logit.",
    )
    seed: int = Field(0, ge=0, description="Seed of the random tokens.")
