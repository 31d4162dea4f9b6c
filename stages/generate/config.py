"""Settings of `nano2 generate`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.common.config import ModelPath, Panel, Short, StageConfig
from stages.common.sizes import Size


class GenerateConfig(StageConfig):
    """Continue a prompt, or with --chat answer it; the text appears on stdout as it is generated.

    The prompt comes from --prompt, --prompt-file or stdin. The same seed gives the same text.
    """

    model: ModelPath = Field(description="Model to generate with.")
    prompt: str | None = Field(None, description="Text to continue or to answer.")
    prompt_file: Path | None = Field(None, description="File with the prompt, in UTF-8.")
    max_tokens: Size = Field(256, ge=1, description="Tokens to generate at most.")
    n: Annotated[int, Short("n")] = Field(
        1, ge=1, description="How many texts to generate, with seeds one apart."
    )

    temperature: Annotated[float, Panel("Sampling")] = Field(
        0.6, ge=0, description="0 always takes the most probable token, 1 samples from the model as it is."
    )
    top_p: Annotated[float, Panel("Sampling")] = Field(
        0.95, gt=0, le=1, description="Only the most probable tokens that together have this probability."
    )
    top_k: Annotated[int, Panel("Sampling")] = Field(
        0, ge=0, description="Only the k most probable tokens; 0 for all."
    )
    seed: Annotated[int, Panel("Sampling")] = Field(0, ge=0, description="Seed of the first text.")
    stop: Annotated[tuple[str, ...], Panel("Sampling")] = Field(
        (), description="End before this text; the model's end-of-text tokens always end it."
    )

    chat: Annotated[bool, Panel("Chat")] = Field(
        False, description="Put the prompt through the chat template, as the user's message."
    )
    system: Annotated[str | None, Panel("Chat")] = Field(
        None,
        description="System message; /think and /no_think in it or in the prompt turn thinking on and off.",
    )
    thinking: Annotated[bool | None, Panel("Chat")] = Field(
        None, description="Turn thinking on or off, whatever the messages say."
    )
    thinking_budget: Annotated[Size | None, Panel("Chat")] = Field(
        None,
        ge=0,
        description="Tokens of thinking, after which it is closed at the next newline; the model is not told.",
    )
    thinking_grace: Annotated[Size | None, Panel("Chat")] = Field(
        None, ge=0, description="Tokens behind the budget to wait for a newline; 500 if not set."
    )

    dtype: Annotated[Literal["float32", "bfloat16", "float16"] | None, Panel("Hardware")] = Field(
        None, description="Load the weights so; by default as they are stored."
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], Panel("Hardware")] = Field(
        "auto", description="auto takes a GPU where there is one."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "GenerateConfig":
        if self.prompt is not None and self.prompt_file is not None:
            raise ValueError("prompt and prompt_file are both given; give one of them")
        if not self.chat and (self.system is not None or self.thinking is not None):
            raise ValueError("system and thinking need --chat")
        if self.thinking_budget is not None and (not self.chat or self.thinking is False):
            raise ValueError("thinking_budget needs --chat, and thinking that is not turned off")
        if self.thinking_grace is not None and self.thinking_budget is None:
            raise ValueError("thinking_grace needs --thinking-budget")
        return self
