"""The tokens at which a model's text ends."""

import json
from pathlib import Path
from typing import Any

from model.chat.special_tokens import END_OF_TURN
from model.config import HybridConfig
from model.errors import ArtifactError

GENERATION_CONFIG = "generation_config.json"


def stop_token_ids(directory: Path, config: HybridConfig, tokenizer: Any, *, chat: bool) -> frozenset[int]:
    """The end-of-text tokens that the config, `generation_config.json` (as transformers' `generate` reads it) and the
    tokenizer name, and for a chat the token that ends a turn. ArtifactError if the file is malformed."""
    ids = {*config.eos_token_ids, *_generation_config_ids(directory / GENERATION_CONFIG)}
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    if chat:
        ids |= {index for name, index in tokenizer.get_added_vocab().items() if name == END_OF_TURN}
    return frozenset(ids)


def _generation_config_ids(path: Path) -> list[int]:
    if not path.is_file():
        return []
    try:
        named = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
        ids = [] if named is None else named if isinstance(named, list) else [named]
        return [int(index) for index in ids]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"eos_token_id cannot be read ({error})", where=str(path), remedy="restore or remove the file"
        ) from error
