"""Runs `nano2`, with the toy stages in its registry, as users do: in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "tests.nano2cli.toy_cli"]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "120",
    "NO_COLOR": "1",
}


@dataclass
class Ran:
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The JSON object on the last line of stdout."""
        return json.loads(self.stdout.splitlines()[-1])

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]


Nano2 = Callable[..., Ran]


def start(folder: Path, *arguments: object, **settings: Any) -> subprocess.Popen[str]:
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)], cwd=folder, env=ENVIRONMENT, text=True, errors="replace", **settings
    )


@pytest.fixture
def nano2(tmp_path: Path) -> Nano2:
    """Run the program in an empty folder and wait for it."""

    def call(*arguments: object, **settings: Any) -> Ran:
        process = start(tmp_path, *arguments, **settings)
        stdout, stderr = process.communicate(timeout=60)
        return Ran(process.returncode, stdout or "", stderr or "")

    return call
