"""`nano2 data convert`: rows of another format in, chat jsonl out."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from evals.chat_lines import ChatSample, parse_sample
from model.errors import ArtifactError
from model.text_lines import json_lines
from stages.common.data.sources import resolve_sources
from stages.common.stage import StageContext, StageResult
from stages.data.convert.config import ConvertConfig, FormatName
from stages.data.convert.formats import FORMATS
from stages.data.convert.rows import LeftOut

CHAT_FILE = "chat.jsonl"


def run(config: ConvertConfig, context: StageContext) -> StageResult:
    """Every line is read back as a sample before it is written."""
    counts: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    with (
        (context.staging / CHAT_FILE).open("w", encoding="utf-8") as out,
        context.reporter.progress("converting", total=None, unit="row") as bar,
    ):
        for row, place in _rows(config):
            bar.update(1)
            counts["rows"] += 1
            try:
                line, sample = _convert(config.format, row, place)
            except LeftOut as error:
                left_out[str(error)] += 1
                continue
            except ArtifactError as error:
                counts["bad_rows"] += 1
                if counts["bad_rows"] > config.skip_bad:
                    raise
                context.reporter.warn(f"left out {error}")
                continue
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            counts["samples"] += 1
            counts.update(_features(sample))
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
    for source in resolve_sources([(path, 1.0) for path in config.data]):
        for file in source.files:
            if not file.name.endswith((".jsonl", ".jsonl.gz")):
                raise ArtifactError("is no jsonl", where=str(file), remedy="give .jsonl or .jsonl.gz")
            yield from json_lines(file)


def _convert(name: FormatName, row: dict[str, Any], place: str) -> tuple[dict[str, Any], ChatSample]:
    try:
        line = FORMATS[name](row)
    except ValueError as error:
        raise ArtifactError(
            str(error), where=place, remedy=f"is this {name}? Repair the row, or leave it out with --skip-bad"
        ) from error
    sample = parse_sample(line, place)
    if not any(message.trace for message in sample.conversation):
        line["thinking"] = False  # said, so that evaluation asks as training did
    return line, sample


def _features(sample: ChatSample) -> Iterator[str]:
    if any(message.trace for message in sample.conversation):
        yield "with_reasoning"
    if any(message.tool_calls for message in sample.conversation):
        yield "with_tool_calls"
    if sample.grader is not None:
        yield "with_grader"
