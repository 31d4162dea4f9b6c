"""What a recipe says of rewards: parts with weights. No torch here."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, field_validator

from stages.common.config import InputPath, Metavar


class _Part(BaseModel):
    """weight: what the part's value is multiplied by before all are added. seconds: what one sample's value may take."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    weight: float = 1.0
    seconds: float = Field(60.0, gt=0)


class GraderReward(_Part):
    """The score of the line's own grader or environment, 0 to 1, or one `part` of its grade, such as "format".

    An answer that is unfinished or malformed has the score 0, as it is not right in an evaluation, either.
    """

    kind: Literal["grader"]
    part: str | None = None

    @property
    def name(self) -> str:
        return "grader" if self.part is None else f"grader_{self.part}"


class LengthReward(_Part):
    """DAPO's soft penalty of overlong answers (arXiv 2503.14476, section 3.4), of the tokens that the model chose.

    0 up to `max_tokens - buffer`, from there falling to -1 at `max_tokens`, and -1 beyond.
    """

    kind: Literal["length"]
    max_tokens: int = Field(gt=0)
    buffer: int = Field(gt=0)

    @property
    def name(self) -> str:
        return "length"

    @field_validator("buffer")
    @classmethod
    def _fits(cls, value: int, info: Any) -> int:
        if value > info.data.get("max_tokens", value):
            raise ValueError(f"buffer {value} is above max_tokens")
        return value


class ModelReward(_Part):
    """The score of a reward model (an artifact of `nano2 reward`), (score - `shift`) / `scale`."""

    kind: Literal["model"]
    path: InputPath
    shift: float = 0.0
    scale: float = Field(1.0, gt=0)

    @property
    def name(self) -> str:
        return "model"


class JudgeReward(_Part):
    """A number from 0 to 10 by an OpenAI-compatible endpoint that is shown question and answer, divided by 10.

    instruction: what it is to judge by.
    """

    kind: Literal["judge"]
    base_url: str
    endpoint_model: str = Field(min_length=1)
    api_key_env: str | None = None
    instruction: str = "Judge how correct, helpful and clear the answer is."
    concurrency: int = Field(8, ge=1, le=1024)
    retries: int = Field(2, ge=0, le=100)

    @property
    def name(self) -> str:
        return "judge"

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is no address that begins with http:// or https://")
        return value


def _from_text(value: object) -> object:
    """On the command line a part is its kind, or a JSON object."""
    if not isinstance(value, str):
        return value
    if not value.startswith("{"):
        return {"kind": value}
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is neither a kind of reward nor a JSON object") from error


RewardPart = Annotated[
    Annotated[GraderReward | LengthReward | ModelReward | JudgeReward, Discriminator("kind")],
    BeforeValidator(_from_text),
    Metavar("grader|JSON"),
]


def names(parts: tuple[RewardPart, ...]) -> list[str]:
    """Of each part the name that its figures are logged under. ValueError for a part that is given twice."""
    found = [part.name for part in parts]
    if repeated := [name for name in found if found.count(name) > 1]:
        raise ValueError(f"rewards: {repeated[0]} is given twice")
    return found
