"""A small byte-level BPE tokenizer with the fixed ids, loaded as any artifact's tokenizer is."""

from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from model.chat.special_tokens import BOS, END_OF_TURN, PAD, SPECIAL_TOKENS, UNK
from model.chat.template import TEMPLATE_PATH, read_template

CORPUS = [
    TEMPLATE_PATH.read_text(),
    "Hello world, think about the weather in Paris and answer the user. " * 20,
]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    directory: Path = tmp_path_factory.mktemp("tokenizer")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=[token.name for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    # The trainer makes every fixed token special; adding them again sets the flag as it should be.
    tokens = [AddedToken(token.name, special=token.special, normalized=False) for token in SPECIAL_TOKENS]
    backend.add_tokens([token for token in tokens if not token.special])
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token=UNK,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END_OF_TURN,
        chat_template=read_template(),
    ).save_pretrained(directory)
    assert (directory / "chat_template.jinja").read_text() == read_template()
    return AutoTokenizer.from_pretrained(directory)
