"""`nano2 inspect DIR`: what an artifact is and what made it."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from model.artifact.hashing import short_hash
from model.artifact.provenance import verify_files
from model.artifact.summary import Summary, summarize
from model.errors import UsageError
from nano2cli.formatting import format_figure, format_label
from stages.common.config import Positional, StageConfig
from stages.common.stage import Stage, StageContext, StageResult


class InspectConfig(StageConfig):
    """Show an artifact's kind, content hash, shape, parameters by kind of layer, metrics and provenance.

    Reads headers only, so it is quick on any size. With --check every file is read and compared with
    nano2.json, and the first damaged one is named (exit 3).
    """

    directory: Annotated[Path, Positional()] = Field(description="Artifact or checkpoint directory.")
    check: bool = Field(False, description="Read every file and compare its sha256 with nano2.json.")


STAGE = Stage(name="inspect", kind=None, config=InspectConfig, run="nano2cli.commands.inspect:run")


def run(config: InspectConfig, context: StageContext) -> StageResult:
    summary = summarize(config.directory)
    notes = []
    if config.check:
        if summary.provenance is None:
            raise UsageError(
                "cannot be checked: it has no nano2.json with hashes to compare with",
                where=str(config.directory),
                remedy="leave out --check",
            )
        verify_files(config.directory, summary.provenance)
        notes.append(f"all {summary.file_count} files have the sha256 that nano2.json records")
    elif summary.provenance and summary.content_hash != summary.provenance.content_hash:
        notes.append("the content is no longer what nano2.json records: --check names the file")
    for title, rows in _tables(summary):
        context.reporter.output(_table(title, rows))
    return StageResult(notes=notes, data=summary.model_dump(mode="json"))


def _tables(summary: Summary) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """Titles, and the rows (label, value) below them."""
    head = {
        "content": short_hash(summary.content_hash),
        "size_bytes": summary.size_bytes,
        "files": summary.file_count,
    }
    yield f"{summary.kind} {Path(summary.path).name}", [*head.items(), *summary.details.items()]
    if summary.parameters:
        total = sum(summary.parameters.values())
        shares = [(kind, f"{count:,}  {count / total:.1%}") for kind, count in summary.parameters.items()]
        yield "parameters", [*shares, ("total", total)]
    if summary.metrics:
        yield "metrics", [*summary.metrics.items()]
    if provenance := summary.provenance:
        made = {
            "stage": provenance.stage,
            "created": f"{provenance.created:%Y-%m-%d %H:%M:%S} UTC",
            "seconds": provenance.seconds,
            "device": " ".join(str(value) for value in provenance.device.values()),
            "command": shlex.join(provenance.command),
            "nano2": provenance.versions.get("nano2_commit", provenance.versions.get("nano2", "unknown")),
        }
        inputs = [
            (f"from {item.kind}", f"{item.path}  {short_hash(item.content_hash)}")
            for item in provenance.inputs
        ]
        yield "made by", [*made.items(), *inputs]


def _table(title: str, rows: list[tuple[str, Any]]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left", show_header=False, box=SIMPLE_HEAD)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(format_label(name)), Text(format_figure(name, value)))
    return table
