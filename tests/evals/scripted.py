"""Real models that say what a test wants: which token follows depends on the last one alone, by a table.

Embeddings are unit vectors and the mixer adds nothing, so the final norm hands the last token to `lm_head`, whose columns
are the logarithms of the wanted probabilities.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from model.loading import save
from model.tokenizer import copy_tokenizer, load_tokenizer
from tests.model.miniatures import miniature, randomized

Table = Mapping[str, str | Mapping[str, float]]
"""From a token to the next one, or to several with their probabilities. What is not in the table is followed by itself."""

END = "<SPECIAL_12>"
"""What ends a turn."""


def scripted_model(directory: Path, tokenizer_directory: Path, table: Table, **config: object) -> Path:
    """An artifact in a new directory. Each name in the table has to be one token."""
    directory.mkdir(parents=True)
    copy_tokenizer(tokenizer_directory, directory)
    tokenizer = load_tokenizer(directory)
    vocab = len(tokenizer)
    settings = {
        "hidden_size": vocab,
        "vocab_size": vocab,
        "max_position_embeddings": 4096,
        "eos_token_id": 2,
        **config,
    }
    lm = randomized(miniature("M", **settings))

    def token(text: str) -> int:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) == 1, f"{text!r} is {len(ids)} tokens"
        return int(ids[0])

    weight = torch.full((vocab, vocab), -1e3)
    weight.fill_diagonal_(0.0)
    for last, following in table.items():
        column = weight[:, token(last)]
        column.fill_(-1e3)
        for text, probability in ({following: 1.0} if isinstance(following, str) else following).items():
            column[token(text)] = math.log(probability)
    with torch.no_grad():
        lm.backbone.embeddings.weight.copy_(torch.eye(vocab))
        lm.backbone.norm_f.weight.fill_(1.0)
        lm.backbone.layers[0].mixer.out_proj.weight.zero_()
        lm.lm_head.weight.copy_(weight / math.sqrt(vocab))
    save(lm, directory)
    return directory
