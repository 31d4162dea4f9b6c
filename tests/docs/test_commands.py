"""Every command of README.md and docs/*.md is one, and does what it is said to at toy size (tests/docs/world.py)."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.exceptions import Exit
from typer import TyperException

from model.errors import UsageError
from nano2cli.app import main
from nano2cli.plan_chain import parse_command
from tests.docs.commands import (
    PAGES,
    ROOT,
    SHELL,
    Line,
    as_one_process,
    blocks,
    lines,
    nano2_commands,
    without_assignments,
)
from tests.docs.world import World, shrunk

NOT_RUN = {
    "bench serve": "a grid of requests, here against a server that is not there; tests/stages/bench runs it smaller",
    "bench cpu": "eight minutes; tests/stages/bench runs it smaller",
    "bench eval": "two minutes; tests/stages/bench runs it smaller",
}
"""Commands that are parsed alone, and why."""

MAKE_TARGETS_NOT_RUN = {"demo", "setup", "test", "test-all"}
"""The demo has tests of its own; the others would install, or run this."""


def of_harness(words: list[str]) -> bool:
    return "--help" in words or "--version" in words


@pytest.mark.parametrize(("line", "words"), nano2_commands(), ids=lambda part: getattr(part, "name", ""))
def test_a_command_parses(line: Line, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if of_harness(words):
        with pytest.raises(SystemExit) as ended:
            main(words[1:])
        assert ended.value.code in (0, None)
        return
    stage, _, flags = parse_command(words)
    if stage.kind is not None and not flags.get("plan"):
        assert flags["out"] is not None, "-o is missing"


@pytest.mark.parametrize(
    "command",
    [
        "nano2 pretrain --token 5",
        "nano2 eval -m m --tasks t --repeats x",
        "nano2 sft -m m -d d ...",
        "nano2 trian",
    ],
)
def test_a_command_that_is_none_is_found(command: str) -> None:
    with pytest.raises((UsageError, TyperException)):
        parse_command(command.split())


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.name)
def test_a_line_runs_programs_that_are_known(line: Line) -> None:
    for command in line.commands:
        words = without_assignments(command)
        if words[0] == "make":
            assert set(words[1:]) <= make_targets()
        elif words[:2] == ("python", "-m"):
            assert importlib.util.find_spec(words[2]) is not None
            assert [word for word in words[3:] if "/" in word and not (ROOT / word).parent.exists()] == []
        else:
            assert words[0] in {
                "nano2",
                "echo",
                "torchrun",
                "curl",
                "cat",
                "pip",
                "export",
                ".",
                "lm_eval",
            }, f"how is {words[0]} tested?"


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_commands_stand_in_blocks_that_say_so() -> None:
    hidden = [
        block.name
        for block in blocks()
        if block.language not in (*SHELL, "text") and re.search(r"^(nano2|make) ", block.text, re.MULTILINE)
    ]
    assert hidden == []


def test_every_page_is_looked_at() -> None:
    assert len(PAGES) == 1 + len(list((ROOT / "docs").glob("*.md")))
    assert len(nano2_commands()) > 60


def pages_that_run() -> list[Path]:
    return [page for page in PAGES if any(line.block.page == page for line, _ in nano2_commands())]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def world(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    return World(tmp_path, shared)


def test_plans_are_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines with --plan as they stand, at full size."""
    planned = [line for line, words in nano2_commands() if "--plan" in words]
    assert len(planned) > 5
    for line in planned:
        assert run_line(line, world, monkeypatch) is None


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", pages_that_run(), ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as a reader would type them."""
    failed = []
    for line in lines():
        if line.block.page == page and (trouble := run_line(line, world, monkeypatch)):
            failed.append(trouble)
    assert not failed, "\n".join(failed)


def run_line(line: Line, world: World, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """None, or what went wrong."""
    typed = [without_assignments(command) for command in line.commands]
    commands = [as_one_process(words) for words in typed]
    small = [prepared(words, world) if words[0] == "nano2" else words for words in commands]
    if not any(words and words[0] == "nano2" for words in small):
        return None
    if typed[0][0] == "torchrun":
        return launched(typed[0], small[0])
    if len(small) > 1:
        pieces = [shlex.join(words) for words in small]
        script = pieces[0] + "".join(
            f" {operator} {piece}" for operator, piece in zip(line.operators, pieces[1:], strict=True)
        )
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        bash = shutil.which("bash")
        assert bash is not None
        ran = subprocess.run(
            [bash, "-c", script], capture_output=True, text=True, check=False, env=os.environ | {"PATH": path}
        )
        return f"{line.name}: {ran.stderr[-800:]}" if ran.returncode else None
    if small[0][1] == "serve" and "--plan" not in small[0]:
        return served(small[0])
    monkeypatch.setattr(sys, "argv", small[0])
    try:
        main(small[0][1:])
    except (SystemExit, Exit) as ended:
        code = getattr(ended, "code", getattr(ended, "exit_code", 0))
        refused = code == 4 and "--plan" in small[0]  # this machine is too small for it, which the plan says
        return f"{line.name}: exit code {code} of {shlex.join(small[0])}" if code and not refused else None
    return None


def launched(typed: Sequence[str], small: list[str]) -> str | None:
    """torchrun starts as many ranks as the docs say."""
    launcher = [*typed[1 : typed.index("nano2cli")], "nano2cli"]
    command = [sys.executable, "-m", "torch.distributed.run", *launcher, *small[1:]]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    said = done.stderr.partition("Traceback")[0]  # torchrun's own, behind what the command says
    return f"{shlex.join(command)}: {said[-2000:]}" if done.returncode else None


def served(words: list[str]) -> str | None:
    """A server comes up, says so, and ends in order when it is told to."""
    command = [sys.executable, "-m", "nano2cli", *words[1:], "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        ready = server.stdout.readline()
        server.terminate()
        server.communicate(timeout=120)
    return (
        None
        if "ready" in ready and server.returncode == 0
        else f"{shlex.join(words)}: {server.returncode}, {ready}"
    )


def prepared(words: list[str], world: World) -> list[str]:
    """The command at toy size, with what it reads; nothing for one that is not run."""
    if of_harness(words):
        return words
    stage, config, flags = parse_command(words)
    if stage.name in NOT_RUN:
        return []
    if flags.get("plan"):
        if not getattr(config, "preset", None) or stage.name == "pretrain":
            world.provide_for(stage, config)
        return words
    world.provide_for(stage, config)
    return [*shrunk(words), *(["--overwrite"] if stage.kind is not None else [])]
