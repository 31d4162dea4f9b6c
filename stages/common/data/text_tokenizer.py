"""Text to training tokens, with the `tokenizers` library alone (no transformers, no torch)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from model.chat.special_tokens import BOS, EOS, PAD
from model.errors import ArtifactError, UsageError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer directory, opened for documents.

    `backend` encodes text as it is: a document that spells `</s>` or `<think>` gets the tokens of these letters,
    never the control token, so that no text can end a document or open a tool call.
    """

    directory: Path
    backend: Tokenizer
    vocab_size: int
    begin_id: int
    end_id: int
    pad_id: int

    @classmethod
    def open(cls, directory: Path) -> TextTokenizer:
        """Opens a directory with a tokenizer.json: a tokenizer artifact or any checkpoint of the Nemotron family.

        Raises:
            ArtifactError: no tokenizer there, a damaged one, one without `<s>` and `</s>`, or ids beyond int32.
        """
        path = directory / "tokenizer.json"
        text = _read(directory)
        vocabulary = _parse(text, directory).get_vocab(with_added_tokens=True)
        plain: dict[str, object] = {
            "added_tokens": [],
            "post_processor": None,
            "truncation": None,
            "padding": None,
        }
        backend = _parse(json.dumps(json.loads(text) | plain), directory)
        for token in (BOS, EOS):
            if token not in vocabulary:
                raise ArtifactError(
                    f"the tokenizer has no {token} token, which marks the ends of documents",
                    where=str(path),
                    remedy="train one with `nano2 data tokenizer`, or use one of the Nemotron family",
                )
        vocab_size = max(vocabulary.values()) + 1
        if vocab_size > 2**31:
            raise ArtifactError(
                f"token ids go up to {vocab_size - 1}, and rows hold 32-bit ids",
                where=str(path),
                remedy="use a tokenizer of at most 2^31 tokens",
            )
        # Padding never counts in a loss, so any valid id will do where a foreign tokenizer has no <unk>.
        pad_id = vocabulary.get(PAD, 0)
        return cls(directory, backend, vocab_size, vocabulary[BOS], vocabulary[EOS], pad_id)

    def encode_documents(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Each document as `<s>` tokens `</s>`, int32."""
        return [
            np.array([self.begin_id, *encoding.ids, self.end_id], dtype=np.int32)
            for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        ]

    def copy_files(self, destination: Path) -> None:
        """Copies the tokenizer's files, those of `TOKENIZER_FILES` that exist."""
        for name in TOKENIZER_FILES:
            if (self.directory / name).is_file():
                shutil.copyfile(self.directory / name, destination / name)


def token_byte_lengths(tokenizer: Tokenizer | Path) -> NDArray[np.int64]:
    """How many bytes of text each token stands for, [vocab_size]; 0 for added (special) tokens and unused ids.

    The denominator of bits per byte: `nats / ln 2 / token_byte_lengths[targets].sum()`.

    Args:
        tokenizer: a `tokenizers.Tokenizer`, or a directory with tokenizer.json.

    Raises:
        ArtifactError: the vocabulary is not byte-level, or cannot be read.
    """
    return np.array([len(token) for token in token_bytes(tokenizer)], dtype=np.int64)


def token_bytes(tokenizer: Tokenizer | Path) -> list[bytes]:
    """The bytes of text that each token stands for, by id; none for added (special) tokens and unused ids.

    Arguments and errors as of `token_byte_lengths`.
    """
    if isinstance(tokenizer, Path):
        tokenizer = load_backend(tokenizer)
    if type(tokenizer.decoder).__name__ != "ByteLevel":
        raise ArtifactError(
            "the tokenizer is not byte-level, so its tokens have no known number of bytes",
            remedy="use a byte-level BPE, as `nano2 data tokenizer` and the Nemotron family have",
        )
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    added = tokenizer.get_added_tokens_decoder()
    table = [b""] * (max(vocabulary.values()) + 1)
    for token, index in vocabulary.items():
        if index not in added:
            table[index] = bytes(map(_BYTE_OF_CHARACTER.__getitem__, token))
    return table


def refuse_other_tokenizer(data: Path, model: Path) -> None:
    """UsageError unless the tokenizers of a dataset and of a model give every token the same id."""
    if difference := vocabulary_difference(data, model):
        raise UsageError(
            f"its tokenizer is not the model's: {difference}",
            where=str(data),
            remedy=f"prepare the data with --tokenizer {model}",
        )


def vocabulary_difference(here: Path, there: Path) -> str | None:
    """The first token that has another id in a second directory's tokenizer, in words; None if every token has the same."""
    ours, theirs = (load_backend(directory).get_vocab(with_added_tokens=True) for directory in (here, there))
    if ours == theirs:
        return None
    token = min(
        (token for token in {*ours, *theirs} if ours.get(token) != theirs.get(token)),
        key=lambda token: (ours.get(token, len(ours)), token),
    )
    return f"token {token!r} is {ours.get(token)} here and {theirs.get(token)} in {there}"


def load_backend(directory: Path) -> Tokenizer:
    """tokenizer.json of a directory; ArtifactError if it is missing or damaged."""
    return _parse(_read(directory), directory)


def _read(directory: Path) -> str:
    path = directory / "tokenizer.json"
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ArtifactError(
            "no tokenizer.json there",
            where=str(directory),
            remedy="give the output of `nano2 data tokenizer` or a checkpoint directory",
        ) from error
    except UnicodeDecodeError as error:
        raise _not_a_tokenizer(directory, error) from error


def _parse(text: str, directory: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower for what it does not understand
        raise _not_a_tokenizer(directory, error) from error


def _not_a_tokenizer(directory: Path, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"not a tokenizer ({str(error).splitlines()[0]})",
        where=str(directory / "tokenizer.json"),
        remedy="write or fetch it again",
    )


def _bytes_by_character() -> dict[str, int]:
    """Byte-level vocabularies write a printable Latin-1 byte as itself and the others, in order, from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + rank): byte for rank, byte in enumerate(others)
    }


_BYTE_OF_CHARACTER = _bytes_by_character()
