"""Tokenizers of the kinds that are about, small and made here: each merges, splits and marks spaces in its own way."""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from evals.ruler.material import essay_sentences
from model.tokenizer import load_tokenizer
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer

TEXTS = [" ".join(sentence) for sentence in essay_sentences()[:1500]]


def _bpe(vocab: int, pre_tokenizer: Any, **settings: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=["<unk>", "<s>"], show_progress=False, **settings
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def nano2() -> Any:
    """As trained here, 4,096 tokens: digits one by one, begin-of-text added."""
    return load_tokenizer(nano2_directory())


@cache
def nano2_directory() -> Path:
    directory = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, directory)
    save_tokenizer(train_tokenizer(iter(TEXTS), 4096), directory)
    return directory


def gpt2() -> Any:
    """Byte-level pieces, no begin-of-text; digits stay together."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = _bpe(3000, pre_tokenizers.ByteLevel(add_prefix_space=False), initial_alphabet=alphabet)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<s>")


def llama() -> Any:
    """Spaces as marks before words, a begin-of-text token and an unknown one."""
    tokenizer = _bpe(
        1200, pre_tokenizers.Metaspace(), initial_alphabet=[chr(code) for code in range(33, 127)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


def across_words() -> Any:
    """Merges across spaces and line ends: counts of pieces are estimates here."""
    tokenizer = _bpe(2500, pre_tokenizers.Split(Regex(r"(?<=\.) "), "isolated"), max_token_length=24)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<s>", unk_token="<unk>")


def unigram() -> Any:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=1000, special_tokens=["<unk>", "<s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<s>", unk_token="<unk>")


MAKERS: list[Callable[[], Any]] = [nano2, gpt2, llama, across_words, unigram]
made = cache(lambda maker: maker())


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return made(nano2)
