"""The command: where its result goes, what it refuses, and (slow) the whole of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from model.errors import UsageError
from stages.bench.cpu.config import DEFAULT_OUT, CpuBenchConfig
from stages.bench.cpu.measure import measure_decoding, measure_matmul, measure_training
from stages.bench.cpu.sweep import SIDES, DecodeSetting, TrainSetting
from stages.bench.isolation import run_isolated
from stages.bench.publishing import check_writable
from stages.common.results import read_result


def test_a_quick_run_replaces_no_result_unasked() -> None:
    assert CpuBenchConfig().result_path == DEFAULT_OUT
    assert CpuBenchConfig(quick=True).result_path is None
    assert CpuBenchConfig(quick=True, out=Path("a.json")).result_path == Path("a.json")


def test_what_could_not_be_written_is_refused_before_measuring(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "cpu.json")
    (tmp_path / "file").touch()
    (tmp_path / "directory.json").mkdir()
    for out in (tmp_path / "file" / "cpu.json", tmp_path / "directory.json", tmp_path / "cpu.txt", tmp_path):
        with pytest.raises(UsageError, match=str(out)):
            check_writable(out)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_both_sides_train_the_same_model(precision: str) -> None:
    measured = [
        run_isolated(measure_training, TrainSetting(side, 96, 1, precision, "sdpa"), 2, 1) for side in SIDES
    ]
    ours, theirs = measured
    assert ours.loss == pytest.approx(theirs.loss, abs=1e-4 if precision == "float32" else 2e-2)
    assert ours.gradient_norm == pytest.approx(
        theirs.gradient_norm, rel=1e-3 if precision == "float32" else 5e-2
    )
    for one in measured:
        assert len(one.seconds) == 2
        assert 8e6 * 16 < one.peak_bytes < 2e9  # weights, gradients, two moments; activations


def test_both_sides_decode_the_same_tokens_by_every_method() -> None:
    settings = [
        DecodeSetting("nano2", "float32", "generate"),
        DecodeSetting("transformers", "float32", "generate"),
        DecodeSetting("transformers", "float32", "loop"),
    ]
    tokens = [run_isolated(measure_decoding, setting, 12, 1, 1).tokens for setting in settings]
    assert tokens[0] == tokens[1] == tokens[2]
    assert len(tokens[0]) == 12


def test_matrix_rates_are_plausible() -> None:
    rates = run_isolated(measure_matmul, "float32", 2, 1)
    assert {name.split()[0] for name in rates} == {"torch.mm", "linear"}
    assert all(1e8 < rate < 1e13 for rate in rates.values())


@pytest.mark.slow
def test_the_quick_command(tmp_path: Path) -> None:
    out = tmp_path / "cpu.json"
    command = [sys.executable, "-m", "nano2cli", "bench", "cpu", "--quick", "--json", "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    payload = json.loads(done.stdout.splitlines()[-1])
    result = read_result(out)
    assert payload["metrics"] == result.metrics
    assert {
        "train_ratio_512",
        "train_ratio_2048",
        "train_memory_ratio",
        "decode_ratio",
        "gemm_share",
    } <= result.metrics.keys()
    assert "falling back" not in done.stderr
    assert result.metrics["decode_agreement"] == 1
