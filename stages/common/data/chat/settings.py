"""What a fine-tuning stage lets the user say about its chats. No torch here."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stages.common.config import Cosmetic, InputPath, Panel, StageConfig
from stages.common.sizes import Size

_PANEL = Panel("Chat data")


class ChatDataSettings(StageConfig):
    """How chat jsonl becomes rows of tokens with a loss mask."""

    seq_len: Annotated[Size, _PANEL] = Field(
        8192, ge=16, le=1 << 24, description="Tokens in a row; longer samples are left out and counted."
    )
    packing: Annotated[bool, _PANEL] = Field(
        True, description="Fill rows with several samples, which do not see each other."
    )
    concatenate_tokens: Annotated[Size | None, _PANEL] = Field(
        None,
        ge=16,
        description="Join samples into documents of up to so many tokens, in which they do see each other.",
    )
    episodes: Annotated[Literal["each", "last"], _PANEL] = Field(
        "each", description="Train the answers to every user message of a chat, or to its last."
    )
    strip_traces: Annotated[float, _PANEL] = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of samples with reasoning that are repeated without it, thinking off.",
    )
    truncate_traces: Annotated[float, _PANEL] = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of samples with reasoning in which it is cut abruptly, the answer kept.",
    )
    truncate_from: Annotated[Size, _PANEL] = Field(
        1000, ge=1, description="Fewest tokens to which reasoning is cut."
    )
    truncate_to: Annotated[Size, _PANEL] = Field(
        2000, ge=1, description="Most tokens to which reasoning is cut."
    )
    decontaminate: Annotated[tuple[InputPath, ...], _PANEL] = Field(
        (), description="Evaluation data, jsonl or text: samples that share words with it are left out."
    )
    decontaminate_words: Annotated[int, _PANEL] = Field(
        13, ge=1, le=1000, description="Words in a row that a sample must not share with evaluation data."
    )
    validation_fraction: Annotated[float, _PANEL] = Field(
        0.01, ge=0, le=0.5, description="Share of samples held out for the validation loss."
    )
    data_seed: Annotated[int, _PANEL] = Field(
        0, ge=0, description="Chooses the samples to hold out, to repeat and to cut."
    )
    workers: Annotated[int | None, Cosmetic(), _PANEL] = Field(
        None,
        ge=1,
        description="Worker processes that encode; by default one a CPU. Results do not depend on it.",
    )

    @model_validator(mode="after")
    def _check_chat_data(self) -> Any:
        if self.truncate_from > self.truncate_to:
            raise ValueError(
                f"truncate_from {self.truncate_from} is above truncate_to {self.truncate_to}: swap them"
            )
        if self.concatenate_tokens is not None and self.concatenate_tokens > self.seq_len:
            raise ValueError(
                f"concatenate_tokens {self.concatenate_tokens} does not fit into rows of seq_len {self.seq_len}"
            )
        return self
