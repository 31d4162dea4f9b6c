"""`nano2 schema` and `nano2 doctor`."""

import json
import os
from pathlib import Path

import pytest

from nano2cli import probes
from tests.nano2cli.conftest import Nano2


def test_schema_prints_the_schema(nano2: Nano2) -> None:
    ran = nano2("schema", "toy")
    schema = json.loads(ran.stdout)
    assert schema["title"] == "ToyConfig"
    assert schema["properties"]["schedule"]["enum"] == ["wsd", "cosine"]
    assert schema["additionalProperties"] is False
    assert nano2("schema", "toy", "--json").json["data"] == schema


def test_schema_lists_and_suggests(nano2: Nano2) -> None:
    assert "data prepare" in nano2("schema", "--list").stdout.splitlines()
    ran = nano2("schema", "tooy", "--json")
    assert ran.code == 2
    assert "did you mean 'toy'?" in ran.error["what"]
    assert nano2("schema").code == 2


def test_doctor_reports_this_machine(nano2: Nano2) -> None:
    ran = nano2("doctor", "--json")
    assert ran.code == 0, ran.stderr
    data = ran.json["data"]
    assert data["cpu"]["cores"] == os.cpu_count()
    assert data["memory"]["total_bytes"] > 2**28
    packages = {package["name"]: package for package in data["packages"]}
    assert packages["torch"]["status"] == "ok"
    assert packages["torch"]["version"].startswith("2.")
    assert {"mamba-ssm", "causal-conv1d", "transformer-engine", "vllm"} <= set(packages)
    assert data["torch"]["threads"] >= 1
    assert data["kernels"], data["problems"]
    assert all(row["layer"] and row["path"] and row["reason"] for row in data["kernels"])


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import os; os.kill(os.getpid(), 11)", "crashed (signal 11)"),
        ("raise ImportError('undefined symbol: _ZN3c10')", "ImportError: undefined symbol: _ZN3c10"),
        ("import sys; sys.exit(3)", "failed without a message"),
    ],
)
def test_an_import_that_crashes_is_reported(code: str, problem: str) -> None:
    assert probes.run_python(code) == ("", problem)


def test_an_import_that_hangs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "IMPORT_TIMEOUT", 1)
    assert probes.run_python("import time; time.sleep(9)") == ("", "did not end within 1 s")


def test_a_broken_optional_package_is_a_line_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mamba_ssm.py").write_text("raise ImportError('built for another torch')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    package = probes._probe_package("mamba-ssm", "mamba_ssm", False)
    assert package.status == "broken"
    assert "built for another torch" in package.note


def test_a_folder_of_the_same_name_here_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert probes.run_python("import json; print(1)") == ("1", "")
    assert (
        probes.run_python("import importlib.util as u; print(u.find_spec('torch').origin)")[0] != "torch.py"
    )


def test_drift_from_the_constraints_is_found(tmp_path: Path) -> None:
    pinned = tmp_path / "constraints.txt"
    torch = probes.installed_version("torch")
    assert torch is not None
    pinned.write_text(f"# pins\ntorch=={torch.partition('+')[0]}\ntyper==0.0.1\nnot-installed==1\n")
    assert probes.constraint_drift(pinned) == [
        {"package": "typer", "installed": probes.installed_version("typer"), "pinned": "0.0.1"}
    ]
    assert probes.constraint_drift(tmp_path / "gone") == []
