"""A tokenizer directory, opened for chats and for plain text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.chat.special_tokens import END_OF_TURN
from model.errors import ArtifactError
from model.tokenizer import load_tokenizer
from stages.common.data.text_tokenizer import TextTokenizer


@dataclass(frozen=True)
class ChatTokenizer:
    """chat: transformers' tokenizer with its template. text: the same for plain text, where no control token can be
    spelled. stop_id: the token that ends an assistant turn.
    """

    directory: Path
    chat: Any
    text: TextTokenizer
    stop_id: int

    @classmethod
    def open(cls, directory: Path) -> "ChatTokenizer":
        """ArtifactError if the tokenizer cannot be read or names no token at which a turn stops."""
        text = TextTokenizer.open(directory)
        chat = load_tokenizer(directory)
        stop_id = chat.get_added_vocab().get(END_OF_TURN, chat.eos_token_id)
        if stop_id is None:
            raise ArtifactError(
                f"the tokenizer has neither {END_OF_TURN} nor an eos_token, so no turn could end",
                where=str(directory),
                remedy="use a tokenizer of `nano2 data tokenizer` or of the Nemotron family",
            )
        return cls(directory, chat, text, stop_id)
