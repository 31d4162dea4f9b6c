"""Figures and tables in Markdown, kept equal to the result files that they come from.

A writer puts in a marker and runs `python -m stages.common.quotes`, which fills in what stands inside:

    <!-- value: cpu.json train_ratio_512 --><!-- /value -->             one metric, three digits
    <!-- value: cpu.json gemm_share .0% --><!-- /value -->              with a format of Python's own
    <!-- bench: cpu.json train -->                                      the rows of table `train`
    <!-- /bench -->
    <!-- bench: cpu.json train: side, length, tok_per_s -->             some of its columns
    <!-- /bench -->
    <!-- bench: cpu.json metrics: train_ratio_512, decode_ratio -->     some metrics (without names: every one)
    <!-- /bench -->

Files are looked for in `docs/bench` and `docs/results`. `--check` changes nothing and fails when a page disagrees.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from model.artifact.staging import write_text_atomic
from model.errors import ArtifactError, Nano2Error
from stages.common.results import Cell, ResultFile, read_result
from stages.common.sizes import format_bytes

ROOT = Path(__file__).parents[2]
RESULT_FOLDERS = ("docs/bench", "docs/results")
METRICS = "metrics"

_QUOTE = re.compile(
    r"(?P<open><!-- (?P<kind>value|bench): (?P<what>[^\n]+?) -->)(?P<content>.*?)(?P<close><!-- /(?P=kind) -->)",
    re.DOTALL,
)
_MARKER = re.compile(r"<!--\s*/?\s*(?:value|bench)\b[^\n]*?-->")
_CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]+`", re.DOTALL | re.MULTILINE)


def quoting_pages(root: Path = ROOT) -> list[Path]:
    """The pages whose figures are kept: README.md and everything in docs."""
    return [page for page in [root / "README.md", *sorted((root / "docs").rglob("*.md"))] if page.is_file()]


def render(text: str, page: Path, root: Path = ROOT) -> str:
    """The text of a page with every quote filled in from its result file.

    Raises ArtifactError naming page and line for a marker that is malformed, nested or never closed, and for a file,
    table, column or metric that does not exist. Markers in code are left alone.
    """
    visible = _CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)
    parts, position, outside = [], 0, ""
    for match in _QUOTE.finditer(visible):
        where = f"{page}:{text.count(chr(10), 0, match.start()) + 1}"
        if _MARKER.search(match["content"]):
            raise _wrong("a quote is opened inside this one", where)
        filled = (_value if match["kind"] == "value" else _table)(match["what"], where, root)
        parts += [text[position : match.start()], match["open"], filled, match["close"]]
        outside += visible[position : match.start()]
        position = match.end()
    if stray := _MARKER.search(outside + visible[position:]):
        raise _wrong(f"the marker {stray[0]} has no partner or is misspelt", str(page))
    return "".join([*parts, text[position:]])


def _value(what: str, where: str, root: Path) -> str:
    words = what.split()
    if len(words) not in (2, 3):
        raise _wrong(f"{what!r} is not FILE METRIC [FORMAT]", where)
    metrics = _result(words[0], where, root).metrics
    if words[1] not in metrics:
        raise _wrong(f"{words[0]} has no metric {words[1]!r}", where)
    if len(words) == 2:
        return format_cell(words[1], metrics[words[1]])
    try:
        return format(metrics[words[1]], words[2])
    except ValueError as error:
        raise _wrong(f"{words[2]!r} is no format for a number", where) from error


def _table(what: str, where: str, root: Path) -> str:
    head, colon, tail = what.partition(":")
    words = head.split()
    if len(words) != 2:
        raise _wrong(f"{what!r} is not FILE TABLE[: COLUMN, COLUMN]", where)
    file, name = words
    result = _result(file, where, root)
    chosen = [word.strip() for word in tail.split(",")] if colon else []
    if name == METRICS:
        if unknown := [metric for metric in chosen if metric not in result.metrics]:
            raise _wrong(f"{file} has no metric {unknown[0]!r}", where)
        metrics = {metric: result.metrics[metric] for metric in chosen or result.metrics}
        rows: list[dict[str, Cell]] = [
            {"metric": f"`{metric}`", "value": format_cell(metric, value)}
            for metric, value in metrics.items()
        ]
        return f"\n{markdown_table(rows, ['metric', 'value'])}\n"
    rows = result.table(name)
    if not rows:
        raise _wrong(f"{file} has no table {name!r}", where)
    if unknown := [column for column in chosen if column not in rows[0]]:
        raise _wrong(f"table {name!r} of {file} has no column {unknown[0]!r}", where)
    return f"\n{markdown_table(rows, chosen or list(rows[0]))}\n"


def markdown_table(rows: Sequence[Mapping[str, Cell]], columns: Sequence[str]) -> str:
    """A Markdown table; a column of numbers is set to the right."""

    def is_numeric(column: str) -> bool:
        cells = [row[column] for row in rows]
        return all(isinstance(cell, int | float | None) and not isinstance(cell, bool) for cell in cells)

    lines = [[column.removesuffix("_bytes").replace("_per_s", "/s").replace("_", " ") for column in columns]]
    lines.append(["---:" if is_numeric(column) else "---" for column in columns])
    lines += [[format_cell(column, row[column]) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_cell(name: str, value: Cell) -> str:
    """`..._bytes` in units, `..._share` in percent, other numbers with three digits or, above 100, whole."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value.replace("|", "\\|")
    if name.endswith("_bytes"):
        return format_bytes(value)
    if name.endswith("_share"):
        return f"{value:.0%}"
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _result(name: str, where: str, root: Path) -> ResultFile:
    paths = [path for folder in RESULT_FOLDERS if (path := root / folder / name).is_file()]
    if not paths:
        raise _wrong(f"there is no {name} in {' or '.join(RESULT_FOLDERS)}", where)
    if len(paths) > 1:
        raise _wrong(f"{name} is in both {' and '.join(RESULT_FOLDERS)}", where)
    return _read(paths[0], paths[0].stat().st_mtime_ns)


@cache
def _read(path: Path, _modified: int) -> ResultFile:
    return read_result(path)


def _wrong(what: str, where: str) -> ArtifactError:
    return ArtifactError(what, where=where, remedy="see the top of stages/common/quotes.py for the markers")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill in, or with `--check` only compare, the given pages (default: README.md and docs)."""
    parser = argparse.ArgumentParser(prog="python -m stages.common.quotes", description=main.__doc__)
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 3 if a page disagrees")
    options = parser.parse_args(arguments)
    stale = []
    try:
        for page in options.pages or quoting_pages():
            text = page.read_text(encoding="utf-8")
            if (filled := render(text, page)) != text:
                stale.append(page)
                if not options.check:
                    write_text_atomic(page, filled)
    except Nano2Error as error:
        print(f"{error}\n  {error.remedy}", file=sys.stderr)
        return error.exit_code
    for page in stale:
        print(f"{page} {'disagrees with its result files' if options.check else 'updated'}")
    return ArtifactError.exit_code if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
