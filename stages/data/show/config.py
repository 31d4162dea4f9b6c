"""Settings of `nano2 data show`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from stages.common.config import Positional, StageConfig


class ShowConfig(StageConfig):
    """Show what training will see: tokens, documents, lengths, padding, and what takes no part in the loss.

    Takes a packed dataset or, with --tokenizer, a file or folder of text.
    """

    path: Annotated[Path, Positional()] = Field(description="Packed dataset, or text.")
    tokenizer: Path | None = Field(None, description="Tokenizer for text; a packed dataset has its own.")
    source: str | None = Field(None, description="Show this source only; 'validation' is the held-out text.")
    rows: int = Field(2, ge=0, description="Rows (of text: documents) to show of each source.")
    text_field: str = Field(
        "text", description="Field that holds the text of jsonl, parquet and saved datasets."
    )
