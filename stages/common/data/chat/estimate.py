"""How many tokens chat jsonl is likely to have, from the first samples of each file."""

from dataclasses import dataclass
from itertools import islice

import numpy as np

from evals.chat_lines import parse_sample
from model.errors import ArtifactError
from model.text_lines import json_lines
from stages.common.data.chat.encoding import encode_sample
from stages.common.data.chat.settings import ChatDataSettings
from stages.common.data.chat.template_check import check_template
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.sources import Source

MEASURED = 200
"""Samples of a source that are encoded; the rest is taken to be like them."""


@dataclass(frozen=True)
class ChatEstimate:
    """Of a source: its samples, and about how many tokens and rows they have."""

    samples: int
    tokens: int
    rows: float


def estimate_chats(source: Source, tokenizer: ChatTokenizer, settings: ChatDataSettings) -> ChatEstimate:
    """ArtifactError for a source without samples or with a broken line among the first, and for a broken template where
    there are chats.
    """
    lines = (line for file in source.files for line in json_lines(file))
    lengths: list[int] = []
    template_checked = False
    for row, place in islice(lines, MEASURED):
        sample = parse_sample(row, place)
        if not (sample.is_text or template_checked):
            check_template(tokenizer)  # before the sample, which would be blamed
            template_checked = True
        encoded = encode_sample(tokenizer, sample, settings.episodes)
        lengths.append(sum(len(item.ids) for item in encoded if len(item.ids) <= settings.seq_len))
    if not lengths:
        raise ArtifactError(
            "has no samples", where=str(source.files[0]), remedy="give it some, or leave it out"
        )
    samples = len(lengths) + sum(1 for _ in lines)
    tokens = round(samples * float(np.mean(lengths)) * (1 + settings.strip_traces))
    return ChatEstimate(samples, tokens, tokens / settings.seq_len if settings.packing else samples)
