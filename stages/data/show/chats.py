"""What `nano2 data show --mask` looks at in chat jsonl: the tokens of samples, what is trained, what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from evals.chat_lines import SUFFIXES, parse_sample
from model.errors import ArtifactError
from model.text_lines import json_lines
from stages.common.data.chat.encoding import Episodes, Examined, examine_sample
from stages.common.data.chat.template_check import check_template
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.sources import Source
from stages.data.show.inspection import MEASURED_DOCUMENTS, ShownRow


@dataclass
class ShownChats:
    """Samples to show, and what was measured of the first `MEASURED_DOCUMENTS` lines of each source.

    problems: how many documents are refused, by what is wrong with them. template: what is wrong with the chat template.
    """

    rows: list[ShownRow] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    samples: int = 0
    trained_tokens: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    template: ArtifactError | None = None


def look_at_chats(
    sources: Sequence[Source], tokenizer: ChatTokenizer, episodes: Episodes, rows: int
) -> ShownChats:
    """The first `rows` samples of each source and, besides, the first one for each reason of refusal.

    Raises:
        ArtifactError: a file that is no jsonl. A line that is no sample is shown as refused.
    """
    shown = ShownChats()
    for source in sources:
        for number, documents in enumerate(
            islice(_documents(source, tokenizer, episodes), MEASURED_DOCUMENTS)
        ):
            shown.samples += 1
            for examined in documents:
                sample, problem = examined.sample, examined.problem
                row = ShownRow(
                    source.name,
                    number,
                    sample.ids,
                    np.zeros(len(sample.ids), np.int32),
                    sample.mask,
                    sample.place,
                    problem,
                )
                is_news = problem is not None and problem.what not in shown.problems
                if number < rows or is_news:
                    shown.rows.append(row)
                if problem is not None:
                    shown.problems[problem.what] += 1
                if len(sample.ids):
                    shown.lengths.append(len(sample.ids))
                    shown.trained_tokens += int(sample.mask.sum())
    try:
        check_template(tokenizer)
    except ArtifactError as error:
        shown.template = error
    return shown


def _documents(source: Source, tokenizer: ChatTokenizer, episodes: Episodes) -> Iterator[list[Examined]]:
    for file in source.files:
        if not file.name.endswith(SUFFIXES):
            raise ArtifactError(
                "is no chat jsonl", where=str(file), remedy="give chat jsonl, or leave out --mask"
            )
        for row, place in json_lines(file):
            try:
                sample = parse_sample(row, place)
            except ArtifactError as error:
                yield [Examined.nothing(place, error)]
            else:
                yield examine_sample(tokenizer, sample, episodes)
