"""Reads the rows of a task's file for lm-eval: `custom_dataset: !function reader.read_split` in each YAML here.

lm-eval's usual way, `dataset_path: json`, wants absolute paths or the right working directory, and goes through the
cache of `datasets` in the user's home. This reads the file in `evals/data/` where the YAML lies, each time anew.
"""

import json
from pathlib import Path
from typing import Any

import datasets

from model.errors import ArtifactError

DATA = Path(__file__).parent.parent / "data"


def read_split(*, file: str, **_metadata: Any) -> dict[str, datasets.Dataset]:
    """The rows of `evals/data/{file}` as {"test": rows}. lm-eval passes the task's metadata along.

    Raises ArtifactError naming file and line unless each line is a JSON object with the keys of the first.
    """
    path = DATA / file
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, f"cannot be read: {error}") from error
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise _damaged(path, f"line {number} is no JSON: {error}") from error
        if not isinstance(row, dict) or (rows and row.keys() != rows[0].keys()):
            raise _damaged(path, f"line {number} has not the keys of the first line")
        rows.append(row)
    return {"test": datasets.Dataset.from_list(rows)}


def _damaged(path: Path, what: str) -> ArtifactError:
    return ArtifactError(what, where=str(path), remedy="restore the file from the nano2 distribution")
