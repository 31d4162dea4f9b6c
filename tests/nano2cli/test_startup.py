"""`nano2 --help` costs little more than a bare Typer app, and imports no stage."""

import importlib
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nano2cli.options import FieldOption
from nano2cli.registry import COMMANDS, GROUPS
from stages.common.stage import Stage, load_target
from tests.nano2cli.conftest import ENVIRONMENT, ROOT, Nano2

HEAVY = ["torch", "transformers", "datasets", "lm_eval", "numpy", "yaml", "stages", "model", "evals"]
ROUNDS = 7

BARE = """
import typer
app = typer.Typer(no_args_is_help=True)
def nothing(): pass
@app.callback()
def root(): "A bare app with as many commands."
for group in {groups!r}:
    app.add_typer(typer.Typer(), name=group, help="A group.")
for name in {names!r}:
    app.command(name, help="Does one thing and does it well enough.")(nothing)
app(["--help"])
"""


def _seconds(*command: str) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=ENVIRONMENT, capture_output=True, check=True
    )
    assert b"Usage" in done.stdout
    return time.perf_counter() - started


def test_help_costs_at_most_1_4_bare_typer_apps(tmp_path: Path) -> None:
    bare = tmp_path / "bare.py"
    names = [command.name.replace(" ", "-") for command in COMMANDS]
    bare.write_text(BARE.format(names=names, groups=[group.name for group in GROUPS]))
    for _ in range(2):  # write the bytecode and warm the page cache
        _seconds(str(bare)), _seconds("-m", "nano2cli", "--help")
    pairs = [(_seconds(str(bare)), _seconds("-m", "nano2cli", "--help")) for _ in range(ROUNDS)]
    bare_seconds, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    assert ours <= 1.4 * bare_seconds, f"{ours:.3f} s against {bare_seconds:.3f} s"


@pytest.mark.parametrize("arguments", [["--help"], ["data", "--help"], ["--version"], []])
def test_listing_imports_nothing_heavy(arguments: list[str]) -> None:
    # Typer itself takes pydantic to read the arguments of a group
    heavy = HEAVY if "data" in arguments else [*HEAVY, "pydantic"]
    code = f"""
import sys
from nano2cli.app import main
try:
    main({arguments})
except SystemExit:
    pass
print("HEAVY", sorted(name for name in {heavy} if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_a_help_page_and_a_recipe_error_import_no_torch(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("stepz: 1")
    code = f"""
import sys
from tests.nano2cli import toy_cli
from nano2cli.app import main
for arguments in (["toy", "--help"], ["toy", "--config", "{tmp_path}/recipe.yaml"], ["toy", "--plan"]):
    try:
        main(arguments)
    except SystemExit as end:
        print("CODE", end.code)
print("HEAVY", sorted(name for name in ("torch", "transformers", "datasets") if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("CODE")] == ["CODE 0", "CODE 2", "CODE 0"]
    assert lines[-1] == "HEAVY []"


def test_every_command_is_listed_once_under_its_panel(nano2: Nano2) -> None:
    page = nano2("--help").stdout
    for command in COMMANDS:
        if " " not in command.name:
            assert page.count(f"│ {command.name} ") == 1
        assert len(command.help) <= 60
    for group in GROUPS:
        assert f"│ {group.name} " in page
        members = [
            command.name.split()[1] for command in COMMANDS if command.name.startswith(group.name + " ")
        ]
        assert members
        group_page = nano2(group.name, "--help").stdout
        assert all(f"│ {member} " in group_page for member in members)
    for panel in {command.panel for command in COMMANDS}:
        assert f"─ {panel} ─" in page


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_of_the_registry_exists(command: object) -> None:
    """Its stage loads without torch, has the registered name, and for each flag a description and a word for its value."""
    stage = load_target(command.target)  # type: ignore[attr-defined]
    assert isinstance(stage, Stage)
    assert stage.name == command.name  # type: ignore[attr-defined]
    assert stage.config.__doc__
    for name, field in stage.config.model_fields.items():
        assert field.description, f"{stage.config.__name__}.{name} has no description"
        option = FieldOption.of(name, field)
        assert option.shape == "flag" or "VALUE" not in option.metavar.split("|"), (
            f"{option.flag} does not say what it takes"
        )
    for target in (stage.run, stage.plan):
        if target:
            module, _, _ = target.partition(":")
            assert importlib.util.find_spec(module), target


def test_loading_every_command_imports_no_torch() -> None:
    code = """
import sys
from nano2cli.registry import COMMANDS
from nano2cli.command import load_command
for command in COMMANDS:
    load_command(command.name)
print("HEAVY", sorted(name for name in ("torch", "transformers", "datasets", "lm_eval") if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1:] == ["HEAVY []"], done.stderr[-500:]


def test_version(nano2: Nano2) -> None:
    ran = nano2("--version")
    assert ran.code == 0
    assert ran.stdout.startswith("nano2 0.")


def test_no_arguments_show_the_help(nano2: Nano2) -> None:
    for arguments in ([], ["data"]):
        ran = nano2(*arguments)
        assert ran.code == 2
        assert "Usage: nano2" in ran.stdout
        assert "error" not in ran.stderr
