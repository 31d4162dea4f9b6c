"""Result files: where a figure that README or docs quote comes from.

`docs/bench/NAME.json` and `docs/results/NAME.json` are written by the command that they name and never edited. Tables and
figures in docs are rendered from them (`stages/common/quotes.py`), and a test fails when the two disagree.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.artifact.environment import describe_device, git_commit, package_versions
from model.artifact.staging import write_text_atomic
from model.config import describe
from model.errors import ArtifactError

Figure = Annotated[int, Field(strict=True)] | Annotated[float, Field(strict=True)]
Cell = Annotated[bool, Field(strict=True)] | Figure | str | None

TABLE = "table"
"""The column that says which table a row belongs to, in a file with more than one."""

RUN, RUNS, FIGURES = "run", "runs", "figures"
"""Of a file that several commands write: the column that says which of them a row comes from; their table, with what was
typed and when; and the table of the metrics of each."""


class ResultFile(BaseModel):
    """The content of a result file.

    name: the file's name without `.json`. command: what wrote it, as typed. device: type, name and count or threads.
    commit: nano2's git commit, ending in `+changes` if files differed from it; None outside a checkout. date: UTC.
    metrics: one number a flat name. rows: tables; rows with the same `table` have the same columns.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    command: str = Field(min_length=1)
    device: dict[str, str | int]
    commit: str | None
    date: AwareDatetime
    versions: dict[str, str]
    metrics: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], Figure]
    rows: list[dict[str, Cell]]

    @model_validator(mode="after")
    def _tables_are_rectangular(self) -> "ResultFile":
        columns: dict[Cell, list[str]] = {}
        for row in self.rows:
            table = row.get(TABLE)
            if columns.setdefault(table, list(row)) != list(row):
                raise ValueError(f"rows of table {table!r} have different columns")
        return self

    def table(self, name: str) -> list[dict[str, Cell]]:
        """The rows of one table, without the column that names it."""
        return [
            {column: cell for column, cell in row.items() if column != TABLE}
            for row in self.rows
            if row.get(TABLE) == name
        ]


def write_result(
    path: Path,
    *,
    command: Sequence[str],
    metrics: Mapping[str, float],
    rows: Sequence[Mapping[str, Cell]],
    device: Mapping[str, str | int] | None = None,
) -> ResultFile:
    """Write `path` whole or not at all, over an older result. The file's name is the result's.

    Commit, date and versions are filled in; `device` defaults to this machine's CPU. Raises ArtifactError for a figure
    that is no finite number and for rows of one table with different columns.
    """
    return _write(path, shlex.join(command), metrics, rows, device or describe_device())


def _write(
    path: Path,
    command: str,
    metrics: Mapping[str, float],
    rows: Sequence[Mapping[str, Cell]],
    device: Mapping[str, str | int],
) -> ResultFile:
    try:
        result = ResultFile(
            name=path.stem,
            command=command,
            device=dict(device),
            commit=git_commit(),
            date=datetime.now(UTC).replace(microsecond=0),
            versions=package_versions(),
            metrics=dict(metrics),
            rows=[dict(row) for row in rows],
        )
    except ValidationError as error:
        raise ArtifactError(
            f"this is no result: {describe(error)}", where=str(path), remedy="nothing was written"
        ) from error
    write_text_atomic(path, _to_json(result))
    return result


def write_run(
    path: Path,
    run: str,
    *,
    command: Sequence[str],
    metrics: Mapping[str, float],
    rows: Sequence[Mapping[str, Cell]],
    device: Mapping[str, str | int],
) -> ResultFile:
    """Write `path` as `write_result` does, beside the figures of other runs that are in it; the same run's are replaced.

    A metric that several runs have is that of the last one written, and the largest where its name ends in `_max`.
    A file that no such runs wrote is replaced. ArtifactError if the others were measured on another device.
    """
    others = _other_runs(path, run, device)
    now = datetime.now(UTC).replace(microsecond=0).isoformat()
    mine: list[Mapping[str, Cell]] = [
        {TABLE: RUNS, "command": shlex.join(command), "commit": git_commit(), "date": now}
    ]
    mine += [{TABLE: FIGURES, "metric": name, "value": value} for name, value in metrics.items()]
    together = _rectangular([*others, *({TABLE: row.get(TABLE), RUN: run, **row} for row in [*mine, *rows])])
    combined: dict[str, float] = {}
    for row in together:
        if row[TABLE] == FIGURES:
            name, value = str(row["metric"]), row["value"]
            assert isinstance(value, int | float)
            combined[name] = max(value, combined.get(name, value)) if name.endswith("_max") else value
    commands = " && ".join(str(row["command"]) for row in together if row[TABLE] == RUNS)
    return _write(path, commands, combined, together, device)


def _other_runs(path: Path, run: str, device: Mapping[str, str | int]) -> list[dict[str, Cell]]:
    """Rows of the runs of another name in a file."""
    if not path.exists():
        return []
    before = read_result(path)
    others = [row for row in before.rows if row.get(RUN, run) != run] if before.table(RUNS) else []
    if others and before.device != dict(device):
        raise ArtifactError(
            f"its other runs were measured on another device ({before.device.get('name')})",
            where=str(path),
            remedy="write to another file, or measure all of them again",
        )
    return others


def _rectangular(rows: Sequence[Mapping[str, Cell]]) -> list[dict[str, Cell]]:
    """Rows table by table; each has all columns of its table's rows."""
    columns: dict[Cell, dict[str, None]] = {}
    for row in rows:
        columns.setdefault(row.get(TABLE), {}).update(dict.fromkeys(row))
    return [
        {name: row.get(name) for name in names}
        for table, names in columns.items()
        for row in rows
        if row.get(TABLE) == table
    ]


def _to_json(result: ResultFile) -> str:
    """JSON with a row a line, so that a diff of two runs reads like a table."""
    values = result.model_dump(mode="json")
    rows = values.pop("rows")
    head = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    lines = ",".join(f"\n    {json.dumps(row, ensure_ascii=False, allow_nan=False)}" for row in rows)
    return f'{head},\n  "rows": [{lines}\n  ]\n}}\n'


def read_result(path: Path) -> ResultFile:
    """A result file. ArtifactError if it is missing, is no JSON, lacks a part or has one too many."""
    remedy = "write it again with the command it names"
    try:
        result = ResultFile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ArtifactError("there is no such result file", where=str(path)) from error
    except ValidationError as error:
        raise ArtifactError(describe(error), where=str(path), remedy=remedy) from error
    except ValueError as error:
        raise ArtifactError(f"not valid JSON ({error})", where=str(path), remedy=remedy) from error
    if result.name != path.stem:
        raise ArtifactError(f"the result in it is named {result.name!r}", where=str(path), remedy=remedy)
    return result
