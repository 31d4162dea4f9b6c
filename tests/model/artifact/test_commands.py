"""`nano2 inspect`, `lineage` and `replay` on real artifacts, some of them in real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from model.artifact.hashing import content_hash, short_hash
from model.artifact.provenance import read_provenance
from tests.forked import Forked
from tests.model.artifact.chain import make_chain

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def nano2(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    process = Forked(*arguments, cwd=cwd, environment=ENVIRONMENT)
    return subprocess.CompletedProcess(arguments, process.wait(), *process.communicate())


def json_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    return make_chain(tmp_path / "tree")


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A tokenizer and a dataset made by the commands themselves, from relative paths."""
    words = [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ]
    lines = [" ".join(words[(start + step) % 12] for step in range(start % 7 + 5)) for start in range(200)]
    (tmp_path / "text.txt").write_text("\n\n".join(lines))
    done = nano2("data", "tokenizer", "-d", "text.txt", "--vocab-size", "300", "-o", "tok", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_inspect(tuned: Path) -> None:
    done = nano2("inspect", tuned)
    assert done.returncode == 0, done.stderr
    for expected in (
        "model tuned",
        "M*-M",
        "mamba",
        "1.25",
        "sft",
        short_hash(content_hash(tuned)),
        "from tokenizer",
    ):
        assert expected in done.stdout
    data = json_of(nano2("inspect", tuned, "--json"))["data"]
    assert data["content_hash"] == content_hash(tuned)
    assert data["provenance"]["stage"] == "sft"


def test_inspect_imports_no_torch(tuned: Path) -> None:
    script = f"import sys; from nano2cli.app import main\ntry: main(['inspect', {str(tuned)!r}])\nfinally: print('torch' in sys.modules)"  # noqa: E501
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.stdout.endswith("False\n"), done.stdout + done.stderr


def test_inspect_check(tuned: Path) -> None:
    assert "all 2 files" in nano2("inspect", tuned, "--check").stdout
    weights = tuned / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert nano2("inspect", tuned).returncode == 0
    done = nano2("inspect", tuned, "--check")
    assert done.returncode == 3
    assert "model.safetensors" in done.stderr
    (tuned / "nano2.json").unlink()
    assert nano2("inspect", tuned, "--check").returncode == 2


def test_inspect_says_that_the_content_is_another(tuned: Path) -> None:
    config = tuned / "config.json"
    config.write_text(config.read_text() + " ")
    assert "no longer what nano2.json records" in nano2("inspect", tuned).stdout


def test_lineage(tuned: Path) -> None:
    shutil.rmtree(tuned.parent / "tokenizer")
    done = nano2("lineage", tuned)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first.startswith("tuned  model ")
    assert "sft  loss 1.25" in first
    assert any("base  model" in line and "pretrain" in line for line in rest)
    assert any("tokenizer" in line and line.endswith("missing") for line in rest)
    assert json_of(nano2("lineage", tuned, "--json"))["data"]["parents"][1]["status"] == "missing"


def test_nothing_there(tmp_path: Path) -> None:
    for command in ("inspect", "lineage", "replay"):
        done = nano2(command, tmp_path / "nothing")
        assert done.returncode == 3
        assert "does not exist" in done.stderr


def test_replay_prints_a_script_that_rebuilds(chain: Path) -> None:
    done = nano2("replay", "tok", "--into", "again", cwd=chain)
    assert done.returncode == 0, done.stderr
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["sh", "-c", done.stdout],
        cwd="/",
        capture_output=True,
        text=True,
        env=ENVIRONMENT | {"PATH": path},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert content_hash(chain / "again" / "tok") == content_hash(chain / "tok")


def test_replay_run(chain: Path) -> None:
    done = nano2("replay", "tok", "--into", "again", "--run", "--json", cwd=chain)
    assert done.returncode == 0, done.stderr
    assert [row["same"] for row in json_of(done)["rows"]] == [True]
    assert content_hash(chain / "again" / "tok") == content_hash(chain / "tok")

    # the same replay continues; a folder with anything else in it is refused
    assert nano2("replay", "tok", "--into", "again", "--run", cwd=chain).returncode == 0
    (chain / "again" / "replay.sh").write_text("another script")
    refused = nano2("replay", "tok", "--into", "again", "--run", cwd=chain)
    assert refused.returncode == 2
    assert "fresh folder" in refused.stderr


@pytest.mark.slow
def test_replay_run_of_a_chain(chain: Path) -> None:
    prepare = ["data", "prepare", "-d", "text.txt", "--tokenizer", "tok", "--seq-len", "64", "-o", "rows"]
    assert nano2(*prepare, cwd=chain).returncode == 0
    done = nano2("replay", "rows", "--into", "again", "--run", "--json", cwd=chain)
    assert done.returncode == 0, done.stderr
    assert [row["same"] for row in json_of(done)["rows"]] == [True, True]
    again = read_provenance(chain / "again" / "rows")
    assert again is not None
    assert again.content_hash == content_hash(chain / "rows")
    assert [parent.path for parent in again.parents] == ["tok"]  # the replay's own, not the original


def test_replay_run_names_the_first_file_that_differs(chain: Path) -> None:
    """A record of another tokenizer.json than the command makes."""
    provenance = json.loads((chain / "tok" / "nano2.json").read_text())
    (chain / "tok" / "tokenizer.json").write_text("{}")
    from model.artifact.provenance import Provenance, write_provenance

    provenance["versions"]["tokenizers"] = "0.0.1"
    write_provenance(chain / "tok", Provenance.model_validate(provenance))
    done = nano2("replay", "tok", "--into", "again", "--run", cwd=chain)
    assert done.returncode == 3
    assert "the rebuilt tokenizer.json differs" in done.stderr
    assert "tokenizers 0.0.1 then" in done.stderr


def test_replay_run_passes_on_the_failure_of_a_step(tuned: Path, tmp_path: Path) -> None:
    done = nano2("replay", tuned, "--into", tmp_path / "again", "--run")
    assert done.returncode == 2  # the recorded settings are not those of `data tokenizer`
    assert "data tokenizer ended with exit code 2" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_replay_interrupted_continues(chain: Path, number: signal.Signals) -> None:
    lines = [
        f"paragraph {index} " + " ".join(str(index * step % 977) for step in range(60))
        for index in range(1000)
    ]
    (chain / "text.txt").write_text("\n\n".join(lines))
    command = ["data", "tokenizer", "-d", "text.txt", "--vocab-size", "1500", "-o", "big"]
    assert nano2(*command, cwd=chain).returncode == 0
    replay = ["replay", "big", "--into", "again", "--run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "nano2cli", *replay],
        cwd=chain, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list((chain / "again").glob("big.tmp-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert nano2(*replay, cwd=chain).returncode == 0
