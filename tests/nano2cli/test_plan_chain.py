"""The plan of the report's chain: a line a command, for GPUs that are assumed, with nothing there."""

import subprocess
import sys
from pathlib import Path

import pytest

from model.errors import UsageError
from nano2cli.plan_chain import Row, assumption, chain_commands, parse_command, plan_rows
from stages.common.cluster import FILLED, H200
from stages.common.results import read_result
from tests.nano2cli.conftest import ENVIRONMENT

ROOT = Path(__file__).parents[2]
CHAIN = ROOT / "recipes" / "nano2" / "chain.sh"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    folder = tmp_path_factory.mktemp("clean")
    for name in ("recipes", "evals"):
        (folder / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        rows = plan_rows(chain_commands(CHAIN), 1024)
    return {str(row["makes"]): row for row in rows}


REPORTED = {
    "nano2-12b-pretrained": 20e12,
    "nano2-12b-base": 18.9e9,
    "nano2-12b-56-distilled": 60e9,
    "nano2-9b-8k": 50e9,
    "nano2-9b-49k": 25e9,
    "nano2-9b-262k": 1e9,
    "nano2-9b-repaired": 0.4e9,
    "nano2-12b-base-56-distilled": 120e9,
    "nano2-9b-base-8k": 360e9,
    "nano2-9b-base": 2.5e9,
}
"""Tokens of the report's text (sections 2 and 4)."""


@pytest.mark.parametrize("name", REPORTED)
def test_tokens_are_the_reports(planned: dict[str, Row], name: str) -> None:
    tokens = planned[name]["tokens"]
    assert isinstance(tokens, int)
    assert REPORTED[name] <= tokens < REPORTED[name] * 1.01  # whole steps


def test_work_of_pretraining_is_that_of_the_model_card(planned: dict[str, Row]) -> None:
    row = planned["nano2-12b-pretrained"]
    assert row["flops"] == pytest.approx(1.45e24, rel=0.02)
    assert row["devices"] == 736  # a row of the step each
    assert row["days"] == pytest.approx(1.45e24 / 736 / (0.35 * 989e12) / 86400, rel=0.02)


def test_every_command_has_a_line_and_those_of_gpus_are_whole(planned: dict[str, Row]) -> None:
    assert len(planned) == len(chain_commands(CHAIN))
    for row in planned.values():
        if str(row["stage"]).startswith(("data ", "merge")):
            assert row["days"] is None
            continue
        memory, devices, days = row["device_bytes"], row["devices"], row["days"]
        assert isinstance(memory, int)
        assert 2**30 < memory <= FILLED * H200.memory
        assert isinstance(devices, int)
        assert 1 <= devices <= 1024
        assert isinstance(days, float)
        assert days > 0


def test_the_result_file_has_these_figures(planned: dict[str, Row]) -> None:
    """Written again by its command when a recipe or a plan changes."""
    written = read_result(ROOT / "docs" / "results" / "plan-nano2.json").table("chain")
    same = ("makes", "devices", "context", "tensor", "device_bytes", "days")
    assert [[row[name] for name in same] for row in written] == [
        [row[name] for name in same] for row in planned.values()
    ]


def test_long_rows_are_split_over_devices(planned: dict[str, Row]) -> None:
    assert planned["nano2-12b-base"]["context"] == 128
    assert planned["nano2-12b-sft1"]["context"] == 16
    assert planned["nano2-12b-base"]["devices"] == 6 * 128  # twelve rows a step, two after the other


def test_too_few_devices_are_refused_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = next(words for words in chain_commands(CHAIN) if words[1] == "pretrain")
    with pytest.raises(UsageError, match="does not fit into 90% of 2 H200"):
        plan_rows([words], 2)


def test_the_table_says_what_it_assumes() -> None:
    for told in ("64 H200", "141 GB", "989 TFLOP/s", "bfloat16", "35%"):
        assert told in assumption(64)


def test_the_plan_is_printed_and_written(tmp_path: Path) -> None:
    chain, out = tmp_path / "chain.sh", tmp_path / "plan.json"
    chain.write_text(
        "# one\nnano2 pretrain --config recipes/nano2/pretrain.yaml \\\n    --tokens 1T -o base # two\n"
        "echo nano2\nnano2 data tokenizer -d text -o tok\n"
    )
    command = [sys.executable, "-m", "nano2cli.plan_chain", str(chain), "--devices", "64", "-o", str(out)]
    ran = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "64 H200" in ran.stdout
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert any(line[:3] == ["base", "pretrain", "1T"] for line in lines)
    assert any(line[:4] == ["tok", "data", "tokenizer", "-"] for line in lines)
    assert out.exists()


@pytest.mark.parametrize("line", ["nano2 pretend -o x", "nano2", "nano2 data"])
def test_a_line_that_is_no_command_is_named(line: str) -> None:
    with pytest.raises(UsageError, match="is no command"):
        parse_command(line.split())


def test_a_script_without_commands_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chain.sh").write_text("echo nano2\n")
    with pytest.raises(UsageError, match="has no nano2 command"):
        chain_commands(tmp_path / "chain.sh")
