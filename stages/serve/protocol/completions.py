"""The request of `POST /v1/completions`."""

from typing import Annotated, Any

from pydantic import Field, PlainValidator

from stages.serve.protocol.base import MOST_TOP_LOGPROBS, GenerationRequest, only

Prompt = str | list[int]
"""A text, or token ids."""


def _prompts(value: Any) -> list[Prompt]:
    """The prompts of any of the four forms: a text, texts, token ids, lists of token ids."""
    if isinstance(value, str) or _are_ids(value):
        return [value]
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return value
    if isinstance(value, list) and value and all(_are_ids(each) for each in value):
        return value
    raise ValueError(
        "is neither a text, nor a list of texts, nor a list of token ids, nor a list of such lists"
    )


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int for each in value)


class CompletionRequest(GenerationRequest):
    """OpenAI's, and `thinking_budget`, `thinking_grace`, `top_k`, `ignore_eos`."""

    prompt: Annotated[list[Prompt], PlainValidator(_prompts)]
    max_tokens: int = Field(16, ge=0)
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=MOST_TOP_LOGPROBS)
    best_of: Annotated[int, only(1)] = 1
    suffix: Annotated[str, only("")] = ""
