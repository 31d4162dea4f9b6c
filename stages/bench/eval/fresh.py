"""A model that nothing was trained on, with a tokenizer of the tasks' own text, for when no artifact is given.

Speed does not depend on what the weights are, and neither does whether two programs agree on them.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from evals.tasks import TASKS
from model.chat.special_tokens import BOS, EOS, PAD
from model.config import HybridConfig
from model.hybrid import HybridLM
from model.loading import save

SEED = 0


def write_fresh_artifact(directory: Path, preset: str) -> None:
    """Weights of the preset, drawn with a fixed seed, and a byte-level BPE of its vocabulary's size."""
    config = HybridConfig.preset(preset)
    torch.manual_seed(SEED)
    save(HybridLM(config), directory)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_train(config.vocab_size), bos_token=BOS, eos_token=EOS, pad_token=PAD
    )
    tokenizer.save_pretrained(directory)


def _train(vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def _texts() -> Iterator[str]:
    for path in sorted((TASKS.parent / "data").glob("*.jsonl")):
        yield from path.read_text(encoding="utf-8").splitlines()
