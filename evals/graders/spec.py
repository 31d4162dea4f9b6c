"""What the specifications of all graders have in common."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from model.config import describe
from model.errors import ArtifactError


class GraderSpec(BaseModel):
    """A grader's settings. Every key must be known, and no value is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    name: str

    @classmethod
    def read(cls, spec: Mapping[str, Any]) -> Self:
        """ArtifactError naming the key that is missing, unknown or of the wrong type."""
        try:
            return cls.model_validate(dict(spec))
        except ValidationError as error:
            raise ArtifactError(
                describe(error), where=f"grader {spec['name']!r}", remedy="docs/graders.md lists its keys"
            ) from error
