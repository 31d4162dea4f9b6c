"""What the requests of both kinds have in common. Nothing here imports torch.

A field that is unknown is refused by name. Fields of OpenAI's API, or of other servers, that are not built are taken with
the one value that changes nothing, and refused with any other; those that cannot change an answer are taken as they come.
"""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MOST_TOP_LOGPROBS = 20


class ApiModel(BaseModel):
    """Nothing is converted. A field that is null is a field that is not there."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return without_nulls(value)


def without_nulls(value: Any) -> Any:
    """A JSON object less its keys that are null."""
    return (
        {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value
    )


def only(*values: Any) -> AfterValidator:
    """Refuses every other value: what it asks for is not built."""

    def check(value: Any) -> Any:
        if value not in values:
            raise ValueError(f"{value!r} is not supported; only {values[0]!r} is")
        return value

    return AfterValidator(check)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class StreamOptions(ApiModel):
    include_usage: bool = False
    include_obfuscation: Annotated[bool, only(False)] = False


class Ignored(ApiModel):
    """Fields that say nothing of the answer."""

    user: Any = None
    metadata: Any = None
    store: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    prompt_cache_options: Any = None


class Neutral(ApiModel):
    """Fields that are taken with the value that changes nothing."""

    frequency_penalty: Annotated[float, only(0)] = 0
    presence_penalty: Annotated[float, only(0)] = 0
    repetition_penalty: Annotated[float, only(1)] = 1
    length_penalty: Annotated[float, only(1)] = 1
    logit_bias: Annotated[dict[str, float], only({})] = {}
    min_p: Annotated[float, only(0)] = 0
    min_tokens: Annotated[int, only(0)] = 0
    use_beam_search: Annotated[bool, only(False)] = False


class GenerationRequest(Ignored, Neutral):
    """How many texts, how they are sampled, where they end, and in which form they come."""

    model: str | None = None
    n: int = Field(1, ge=1)
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Annotated[list[str], BeforeValidator(_listed)] = Field(default_factory=list, max_length=64)
    ignore_eos: bool = False
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    thinking_budget: int | None = Field(None, ge=0)
    thinking_grace: int | None = Field(None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        try:
            json.dumps(value if isinstance(value, dict) else None, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("the body spells half a character, a surrogate without its other half") from None
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "GenerationRequest":
        if not self.stream and "stream_options" in self.model_fields_set:
            raise ValueError("stream_options: is for answers that are streamed")
        if self.thinking_grace is not None and self.thinking_budget is None:
            raise ValueError("thinking_grace: needs thinking_budget")
        return self
