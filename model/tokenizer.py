"""The tokenizer that lies beside a model's weights."""

import json
import shutil
from pathlib import Path
from typing import Any

from model.artifact.staging import write_json
from model.errors import ArtifactError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


def load_tokenizer(directory: Path, vocab_size: int | None = None) -> Any:
    """transformers' tokenizer of an artifact. ArtifactError if there is none, or if it has more tokens than `vocab_size`."""
    from transformers import AutoTokenizer

    if not (directory / "tokenizer.json").is_file():
        raise ArtifactError(
            "there is no tokenizer.json", where=str(directory), remedy="copy the tokenizer beside the weights"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # transformers and tokenizers raise many kinds, bare Exception among them
        raise ArtifactError(
            f"the tokenizer cannot be read ({str(error).splitlines()[0]})",
            where=str(directory),
            remedy="restore tokenizer.json and tokenizer_config.json",
        ) from error
    if vocab_size is not None and len(tokenizer) > vocab_size:
        raise ArtifactError(
            f"the tokenizer has {len(tokenizer)} tokens, the embedding {vocab_size} rows",
            where=str(directory),
            remedy="use the tokenizer that the model was trained with, or a larger vocab_size",
        )
    return tokenizer


def copy_tokenizer(source: Path, destination: Path) -> None:
    """Copy the tokenizer files of one artifact into another, byte for byte."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, destination / name)


def declare_length(directory: Path, length: int) -> None:
    """Raise `model_max_length` in an artifact's tokenizer_config.json to `length` tokens, where it names a smaller one."""
    path = directory / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.get("model_max_length", length) < length:
        write_json(path, settings | {"model_max_length": length})
