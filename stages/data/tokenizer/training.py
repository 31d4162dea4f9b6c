"""A byte-level BPE with the special tokens of the family, and the files that transformers reads it from.

Text is split before BPE into words that start at a capital letter or after one character of space or punctuation,
single digits, runs of punctuation, line ends and other white space. Merges never cross these. Single digits make
arithmetic regular: a number's tokens are its digits, whatever its length.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import model.chat
from model.chat.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS, UNK

_UPPER = r"[\p{Lu}\p{Lt}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SPLIT_PATTERN = "|".join(
    (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+",  # word, Word, _word, (word, 'word
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+",  # WORD
        r"\p{N}",  # one digit
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",  # punctuation, with the line end after it
        r"\s*[\r\n]+",  # line ends, with the blanks before them
        r"\s+(?!\S)",  # indentation, but for the blank that belongs to the next word
        r"\s+",
    )
)
CHAT_TEMPLATE = "chat_template.jinja"


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> Tokenizer:
    """Learns the merges; the same tokenizer for the same text whatever the number of threads.

    The result has fewer than `vocab_size` tokens where the text has too few repeated pairs.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[token.name for token in SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return _with_visible_tags(tokenizer)


def _with_visible_tags(tokenizer: Tokenizer) -> Tokenizer:
    """The trainer flags all tokens given to it as special; `SPECIAL_TOKENS` says which of them decoding shows."""
    spec = json.loads(tokenizer.to_str())
    for token in spec["added_tokens"]:
        token["special"] = SPECIAL_TOKENS[token["id"]].special
    return Tokenizer.from_str(json.dumps(spec))


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json, special_tokens_map.json and the chat template."""
    roles = {"bos_token": BOS, "eos_token": EOS, "unk_token": UNK, "pad_token": PAD}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": True,
        "add_eos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        **roles,
        "added_tokens_decoder": {
            str(index): {
                "content": token.content,
                "lstrip": token.lstrip,
                "normalized": token.normalized,
                "rstrip": token.rstrip,
                "single_word": token.single_word,
                "special": token.special,
            }
            for index, token in sorted(tokenizer.get_added_tokens_decoder().items())
        },
    }
    _write(directory / "tokenizer.json", tokenizer.to_str(pretty=True))
    _write(directory / "tokenizer_config.json", json.dumps(config, indent=2, ensure_ascii=False))
    _write(directory / "special_tokens_map.json", json.dumps(roles, indent=2))
    shutil.copyfile(Path(model.chat.__file__).with_name(CHAT_TEMPLATE), directory / CHAT_TEMPLATE)


def _write(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")
