"""`nano2 doctor`: what this machine has, and which path each kind of layer takes on it."""

import platform
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from model.errors import PlanRefusedError
from nano2cli.formatting import format_figure, format_label
from nano2cli.probes import (
    constraint_drift,
    installed_version,
    probe_cpu,
    probe_kernels,
    probe_memory,
    probe_packages,
    probe_torch,
)
from stages.common.config import StageConfig
from stages.common.sizes import format_bytes
from stages.common.stage import Stage, StageContext, StageResult


class DoctorConfig(StageConfig):
    """Report this machine's processor, memory, devices and packages, which path each kind of layer takes on
    it and why, and where the installed packages differ from the pinned ones."""


STAGE = Stage(name="doctor", kind=None, config=DoctorConfig, run="nano2cli.commands.doctor:run")


def run(config: DoctorConfig, context: StageContext) -> StageResult:  # noqa: ARG001
    """Probe and report. Fails with PlanRefusedError (exit 4) if a package that nano2 needs is missing or
    broken."""
    context.reporter.log("importing packages, each in a process of its own")
    packages = probe_packages()
    torch, torch_problem = probe_torch()
    kernels, kernels_problem = probe_kernels()
    cpu, memory, drift = probe_cpu(), probe_memory(), constraint_drift()

    machine = {
        "nano2": installed_version("nano2"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu["name"],
        "cores": f"{cpu['cores']}, usable {cpu['usable_cores']}, threads of torch {torch.get('threads', '?')}",
        "cpu bf16": ", ".join(cpu["bf16"]) or "not in hardware: bf16 is slower than fp32 here",
        "memory_bytes": memory["total_bytes"],
        "available_bytes": memory["available_bytes"],
    }
    if memory["limit_bytes"] is not None:
        machine["memory limit_bytes"] = memory["limit_bytes"]
    machine["cuda"] = _cuda(torch, torch_problem)
    output = context.reporter.output
    output(_table([[format_label(name), format_figure(name, value)] for name, value in machine.items()]))
    output(
        _table(
            [[p.name, p.version or "-", p.status, p.note] for p in packages],
            "package",
            "version",
            "status",
            "",
        )
    )
    if kernels:
        output(_table(kernels, "layer", "path", "reason"))
    else:
        output(f"the layers' paths are unknown: {kernels_problem}")
    for item in drift:
        context.reporter.warn(
            f"{item['package']} is {item['installed']}, constraints.txt pins {item['pinned']}"
        )

    broken = [package for package in packages if package.required and package.status != "ok"]
    return StageResult(
        data={
            "machine": machine,
            "cpu": cpu,
            "memory": memory,
            "torch": torch,
            "packages": [asdict(package) for package in packages],
            "kernels": [dict(zip(("layer", "path", "reason"), row, strict=False)) for row in kernels],
            "constraints_drift": drift,
            "problems": [problem for problem in (torch_problem, kernels_problem) if problem],
        },
        failure=_failure(broken[0].name, broken[0].note) if broken else None,
    )


def _cuda(torch: dict[str, Any], problem: str) -> str:
    if problem:
        return f"unknown: torch {problem}"
    devices = [
        f"{device['name']} ({format_bytes(device['memory_bytes'])}, sm {device['capability']})"
        for device in torch["devices"]
    ]
    build = (
        f"torch is built for CUDA {torch['cuda_build']}" if torch["cuda_build"] else "torch is built for CPUs"
    )
    return ", ".join(devices) or f"no device ({build})"


def _failure(name: str, note: str) -> PlanRefusedError:
    return PlanRefusedError(
        f"{name} does not import: {note}", where="nano2 doctor", remedy="run make install again"
    )


def _table(rows: list[list[str]], *heads: str) -> Table:
    table = Table(box=SIMPLE, show_header=bool(heads))
    for head in heads or ("", ""):
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
