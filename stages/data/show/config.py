"""Settings of `nano2 data show`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from stages.common.config import Positional, Short, StageConfig


class ShowConfig(StageConfig):
    """Show what training will see: tokens, documents, lengths, padding, and what takes no part in the loss.

    Takes a packed dataset or, with --tokenizer, a file or folder of text. With --mask it tells trained tokens from the
    others, and also takes chat jsonl: of each sample that fine-tuning would refuse it says why.
    """

    path: Annotated[Path, Positional()] = Field(description="Packed dataset, or text, or chats.")
    mask: bool = Field(False, description="Show which tokens are trained; the path may be chat jsonl.")
    tokenizer: Path | None = Field(
        None, description="Tokenizer for text and chats; a packed dataset has its own."
    )
    model: Annotated[Path | None, Short("m")] = Field(None, description="Model whose tokenizer to take.")
    episodes: Literal["each", "last"] = Field(
        "each", description="Which episodes of chats are trained, as in fine-tuning."
    )
    source: str | None = Field(None, description="Show this source only; 'validation' is the held-out text.")
    rows: int = Field(2, ge=0, description="Rows (documents, chats) to show of each source.")
    text_field: str = Field(
        "text", description="Field that holds the text of jsonl, parquet and saved datasets."
    )
