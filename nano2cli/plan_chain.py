"""`python -m nano2cli.plan_chain recipes/nano2/chain.sh`: what every command of a chain takes on many GPUs, a line each.

Nothing needs to be there and nothing is run: the commands' own plans are made for an accelerator that is assumed.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import Nano2Error, UsageError
from nano2cli.registry import COMMANDS, find_command
from stages.common.config import StageConfig
from stages.common.stage import Stage, load_target

if TYPE_CHECKING:
    from model.parallel.shape import MeshShape
    from stages.common.plan import Plan

DEVICES = 1024

_FIGURES = ("tokens", "flops", "devices", "context", "tensor", "device_bytes", "days")

Row = dict[str, str | int | float | None]


def chain_commands(path: Path) -> list[list[str]]:
    """The words of each `nano2` command of a shell script, in order. UsageError if there is none."""
    lines = re.sub(r"\\\n", " ", path.read_text(encoding="utf-8")).splitlines()
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("nano2 ")]
    if not commands:
        raise UsageError("has no nano2 command", where=str(path), remedy="give a script with one a line")
    return commands


def parse_command(words: Sequence[str]) -> tuple[Stage, StageConfig, dict[str, Any]]:
    """The stage, its settings, and the harness's flags (`out`, `plan`, ...), of a command line that begins with `nano2`.

    Raises what the command itself would: UsageError, or Typer's own for a flag that is not known.
    """
    from nano2cli.command import load_command
    from nano2cli.settings import build_config

    command = find_command(" ".join(words[1:3])) or find_command(" ".join(words[1:2]))
    if command is None:
        raise UsageError(
            "is no command",
            where=" ".join(words[:3]),
            remedy=f"choose one of {', '.join(command.name for command in COMMANDS)}",
        )
    stage: Stage = load_target(command.target)
    arguments = list(words[1 + len(command.name.split()) :])
    values = load_command(command.name).make_context(command.name, arguments).params
    settings = {key: value for key, value in values.items() if key in stage.config.model_fields}
    flags = {key: value for key, value in values.items() if key not in settings}
    return stage, build_config(stage, flags.get("config"), settings), flags


def plan_rows(commands: Sequence[Sequence[str]], devices: int) -> list[Row]:
    """A row a command: what it makes, tokens, FLOPs, devices, memory of each, days. UsageError if one does not fit."""
    from stages.common.cluster import FILLED, H200, flops, spread
    from stages.common.training.hardware import assumed_accelerator
    from stages.common.training.settings import TrainingSettings

    rows: list[Row] = []
    for words in commands:
        stage, config, flags = parse_command(words)
        out = Path(flags["out"]).name if flags.get("out") else None
        row: Row = {"makes": out, "stage": stage.name}
        row |= dict.fromkeys(_FIGURES)
        rows.append(row)
        with assumed_accelerator(H200):
            plan = stage.call_plan(config)
        if plan is None:
            continue
        if "row_tokens" not in plan.sections.get("Work", {}):  # nothing for a GPU, or not known
            row["device_bytes"] = plan.peak_bytes
            continue
        work = plan.sections["Work"]
        assert isinstance(config, TrainingSettings)
        rows_of_a_step = int(work["tokens_per_step"]) // int(work["row_tokens"])
        micro_batches = max(1, rows_of_a_step // config.micro_batch)
        layout = spread(partial(_plan_on, stage, config), micro_batches, H200, devices)
        if layout is None:
            raise UsageError(
                f"does not fit into {FILLED:.0%} of {devices} {H200.name}",
                where=f"{stage.name} of {out}",
                remedy="give more --devices",
            )
        row |= {
            "tokens": int(work["tokens"]),
            "flops": float(f"{flops(plan):.4g}"),
            "devices": layout.mesh.ranks,
            "context": layout.mesh.context,
            "tensor": layout.mesh.tensor,
            "device_bytes": layout.memory,
            "days": float(f"{layout.seconds / 86400:.3g}"),
        }
    return rows


def _plan_on(stage: Stage, config: StageConfig, mesh: "MeshShape") -> "Plan":
    """The command's own plan, for one of that many devices."""
    from stages.common.cluster import H200
    from stages.common.training.hardware import assumed_accelerator
    from stages.common.training.planned_mesh import assumed_ranks

    arranged = config.model_copy(update={"context_parallel": mesh.context, "tensor_parallel": mesh.tensor})
    with assumed_accelerator(H200), assumed_ranks(mesh.ranks):
        plan = stage.call_plan(arranged)
    assert plan is not None
    return plan


def assumption(devices: int) -> str:
    """What the figures are for."""
    from stages.common.cluster import H200
    from stages.common.training.planning import TYPICAL_SHARE

    return (
        f"up to {devices} {H200.name} of {H200.memory / 1e9:.0f} GB and {H200.flops_per_s / 1e12:.0f} TFLOP/s in bfloat16, "
        f"of which {TYPICAL_SHARE:.0%} are reached (10% in decoding)"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Plan every command of a chain.")
    parser.add_argument("chain", type=Path)
    parser.add_argument("--devices", type=int, default=DEVICES, help="GPUs at most (default: %(default)s)")
    parser.add_argument("-o", "--out", type=Path, help="write a result file, too")
    arguments = parser.parse_args()
    try:
        rows = plan_rows(chain_commands(arguments.chain), arguments.devices)
        days = sum(float(row["days"] or 0) for row in rows)
        _show(rows, arguments.devices, days)
        if arguments.out is not None:
            _write(rows, arguments, days)
    except Nano2Error as error:
        print(f"error: {error}\n  next:  {error.remedy}", file=sys.stderr)
        return error.exit_code
    return 0


def _shown(name: str, value: Any) -> str:
    from stages.common.sizes import format_bytes, format_size

    if value is None:
        return "-"
    if name.endswith("_bytes"):
        return format_bytes(value)
    if name == "tokens":
        return format_size(int(float(f"{value:.3g}")))
    return f"{value:.3g}" if name in ("flops", "days") else str(value)


def _write(rows: list[Row], arguments: argparse.Namespace, days: float) -> None:
    from stages.common.cluster import H200
    from stages.common.results import write_result

    write_result(
        arguments.out,
        command=["python", "-m", "nano2cli.plan_chain", *sys.argv[1:]],
        metrics={
            "days": round(days, 1),
            "flops": float(f"{sum(float(row['flops'] or 0) for row in rows):.4g}"),
            "devices": arguments.devices,
        },
        rows=[
            {"table": "chain"} | row | {name: _shown(name, row[name]) for name in ("tokens", "flops")}
            for row in rows
        ],
        device={"type": "assumed", "name": H200.name, "count": arguments.devices},
    )


def _show(rows: list[Row], devices: int, days: float) -> None:
    from rich.console import Console

    from stages.common.tables import lay_out

    labels = {"device_bytes": "memory each", "flops": "FLOPs"}
    title = assumption(devices)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    table = lay_out(rows, list(rows[0]), label=lambda name: labels.get(name, name), shown=_shown, title=title)
    console.print(table)
    console.print(f"{days:.1f} days in all. Data and merges take CPUs; what has no plan has no figures.")


if __name__ == "__main__":
    sys.exit(main())
