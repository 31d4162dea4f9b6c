"""The type of `-d PATH[:weight]` where the path is raw text: it may also be a glob pattern."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import SerializationInfo, SerializerFunctionWrapHandler, model_serializer

from stages.common.config import WEIGHTED_PATH, Short, WeightedPath
from stages.common.data.sources import files_of_pattern


class SourcePath(WeightedPath):
    """A file, a directory or a glob pattern of text, and its weight: one source of a blend.

    Each file that a pattern matches is an input of its own to the harness.
    """

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        if not info.context:
            return handler(self)
        files = files_of_pattern(self.path) or (self.path,)
        described = [info.context(file, self.weight) for file in files]
        return described[0] if files == (self.path,) else described

    @property
    def pair(self) -> tuple[Path, float]:
        """(path, weight), as `resolve_sources` takes them."""
        return self.path, self.weight


SourcePaths = Annotated[tuple[SourcePath, ...], Short("d"), WEIGHTED_PATH]
