"""`nano2 data convert`: rows of another format in, chat jsonl or pair jsonl out."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from evals.chat_lines import parse_sample
from model.chat.messages import Message
from model.errors import ArtifactError
from model.text_lines import json_lines
from stages.common.data.sources import resolve_sources
from stages.common.preferences.lines import parse_pair
from stages.common.stage import StageContext, StageResult
from stages.data.convert.config import ConvertConfig, FormatName
from stages.data.convert.formats import FORMATS, PAIR_FORMATS
from stages.data.convert.preferences import by_context
from stages.data.convert.rows import LeftOut

CHAT_FILE = "chat.jsonl"
PAIRS_FILE = "pairs.jsonl"


def run(config: ConvertConfig, context: StageContext) -> StageResult:
    """Every line is read back as a sample or a pair before it is written."""
    convert = _pairs if config.format in PAIR_FORMATS else _chat
    counts: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    with (
        (context.staging / (PAIRS_FILE if convert is _pairs else CHAT_FILE)).open(
            "w", encoding="utf-8"
        ) as out,
        context.reporter.progress("converting", total=None, unit="row") as bar,
    ):
        for row, place in _rows(config):
            bar.update(1)
            counts["rows"] += 1
            try:
                lines = convert(config.format, row, place)
            except LeftOut as error:
                left_out[str(error)] += 1
                continue
            except ArtifactError as error:
                counts["bad_rows"] += 1
                if counts["bad_rows"] > config.skip_bad:
                    raise
                context.reporter.warn(f"left out {error}")
                continue
            for line, features in lines:
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
                counts["samples"] += 1
                counts.update(features)
    if not counts["samples"]:
        raise ArtifactError(
            f"none of {counts['rows']} rows gives a sample ({', '.join(left_out) or 'there are none'})",
            where=", ".join(map(str, config.data)),
            remedy="give rows of this format",
        )
    notes = [f"{count} rows left out: {reason}" for reason, count in left_out.items()]
    for note in notes:
        context.reporter.log(note)
    names = ("rows", "samples", "bad_rows", "with_reasoning", "with_tool_calls", "with_grader")
    metrics: dict[str, float | int | str] = {name: counts[name] for name in names}
    return StageResult(metrics | {"left_out": left_out.total()}, notes=notes)


def _rows(config: ConvertConfig) -> Iterator[tuple[dict[str, Any], str]]:
    rows = _rows_of_files(config)
    return by_context(rows) if config.format == "taskmaster-rewards" else rows


def _rows_of_files(config: ConvertConfig) -> Iterator[tuple[dict[str, Any], str]]:
    for source in resolve_sources([(path, 1.0) for path in config.data]):
        for file in source.files:
            if not file.name.endswith((".jsonl", ".jsonl.gz")):
                raise ArtifactError("is no jsonl", where=str(file), remedy="give .jsonl or .jsonl.gz")
            yield from json_lines(file)


Converted = list[tuple[dict[str, Any], Iterable[str]]]
"""Lines with what is counted of each."""


def _chat(name: FormatName, row: dict[str, Any], place: str) -> Converted:
    try:
        line = FORMATS[name](row)
    except ValueError as error:
        raise _bad_row(error, name, place) from error
    sample = parse_sample(line, place)
    if not any(message.trace for message in sample.conversation):
        line["thinking"] = False  # said, so that evaluation asks as training did
    features = [*_features(sample.conversation)] + (["with_grader"] if sample.grader is not None else [])
    return [(line, features)]


def _pairs(name: FormatName, row: dict[str, Any], place: str) -> Converted:
    try:
        lines = PAIR_FORMATS[name](row)
    except ValueError as error:
        raise _bad_row(error, name, place) from error
    pairs = [parse_pair(line, place) for line in lines]
    return [
        (line, _features([*pair.side("chosen"), *pair.side("rejected")]))
        for line, pair in zip(lines, pairs, strict=True)
    ]


def _bad_row(error: ValueError, name: FormatName, place: str) -> ArtifactError:
    return ArtifactError(
        str(error), where=place, remedy=f"is this {name}? Repair the row, or leave it out with --skip-bad"
    )


def _features(messages: Sequence[Message]) -> Iterator[str]:
    if any(message.trace for message in messages):
        yield "with_reasoning"
    if any(message.tool_calls for message in messages):
        yield "with_tool_calls"
