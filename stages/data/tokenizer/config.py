"""Settings of `nano2 data tokenizer`."""

from pydantic import Field

from model.chat.special_tokens import N_FIXED_IDS
from stages.common.config import InputPath, StageConfig
from stages.common.data.source_path import SourcePaths
from stages.common.sizes import Size

SMALLEST_VOCABULARY = N_FIXED_IDS + 256


class TokenizerConfig(StageConfig):
    """Train a byte-level BPE tokenizer on text.

    The vocabulary holds 32 special tokens at fixed ids, all 256 bytes, and merges learned from the text, so that
    every text can be written in it and read back exactly. The output loads with transformers' AutoTokenizer and
    carries the chat template.
    """

    data: SourcePaths = Field(
        description="Text: .txt, .jsonl, .parquet (or .gz), a directory, or a glob pattern."
    )
    chats: tuple[InputPath, ...] = Field(
        (),
        description="Chat jsonl whose words the tokenizer shall know, too: what is said, thought and called.",
    )
    vocab_size: Size = Field(
        131_072,
        ge=SMALLEST_VOCABULARY,
        le=2**31,
        description=f"Tokens in all; at least {SMALLEST_VOCABULARY} (special tokens and single bytes).",
    )
    text_field: str = Field(
        "text", description="Field that holds the text of jsonl, parquet and saved datasets."
    )
    validation: InputPath | None = Field(
        None,
        description="Text to measure bytes per token on; otherwise every 64th passage of the data is held out.",
    )
