"""What a fine-tuning run will take, estimated from the first samples of each file."""

from itertools import islice

import numpy as np

from evals.chat_lines import parse_sample
from model.errors import ArtifactError
from model.loading import read_config
from model.text_lines import json_lines
from model.tokenizer import load_tokenizer
from stages.common.data.chat.encoding import encode_sample
from stages.common.data.chat.template_check import check_template
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.sources import Source, resolve_sources
from stages.common.plan import Plan, PlanValue
from stages.common.training.planning import training_plan
from stages.sft.config import SftConfig
from stages.sft.epochs import step_shape

MEASURED = 200
"""Samples of a source that are encoded; the rest is taken to be like them."""


def plan(config: SftConfig) -> Plan:
    shape = read_config(config.model)
    load_tokenizer(config.model, shape.vocab_size)  # refuses one with more tokens than the model has
    tokenizer = ChatTokenizer.open(config.model)
    sources = resolve_sources((item.path, item.weight) for item in config.data)
    data: dict[str, PlanValue] = {}
    rows_of_epoch = 0.0
    for source in sources:
        samples, tokens = _measure(source, tokenizer, config)
        rows = tokens / config.seq_len if config.packing else samples
        rows_of_epoch += rows * source.weight
        data |= {f"{source.name} (samples)": samples, f"{source.name} (tokens, estimated)": tokens}
    return training_plan(
        f"sft {config.model}",
        shape,
        step_shape(config, rows_of_epoch),
        config,
        data=data,
        warnings=[f"tokens are estimated from the first {MEASURED} samples of each source"],
    )


def _measure(source: Source, tokenizer: ChatTokenizer, config: SftConfig) -> tuple[int, int]:
    """Samples of a source, and about how many tokens they have. ArtifactError for a broken line among the first, and for
    a broken template where there are chats.
    """
    lines = (line for file in source.files for line in json_lines(file))
    lengths: list[int] = []
    template_checked = False
    for row, place in islice(lines, MEASURED):
        sample = parse_sample(row, place)
        if not (sample.is_text or template_checked):
            check_template(tokenizer)  # before the sample, which would be blamed
            template_checked = True
        encoded = encode_sample(tokenizer, sample, config.episodes)
        lengths.append(sum(len(item.ids) for item in encoded if len(item.ids) <= config.seq_len))
    if not lengths:
        raise ArtifactError(
            "has no samples", where=str(source.files[0]), remedy="give it some, or leave it out"
        )
    samples = len(lengths) + sum(1 for _ in lines)
    return samples, round(samples * float(np.mean(lengths)) * (1 + config.strip_traces))
