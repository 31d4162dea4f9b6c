"""The Typer app: lists commands from the registry, loads the one that is invoked, and turns every end into
an exit code. Only Typer is imported here; `nano2 --help` must cost little more than that.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nano2cli.registry import COMMANDS, GROUPS

PROGRAM = "nano2"


class LazyGroup(TyperGroup):
    """Lists commands that hold no more than a help line, and swaps in the real one when it is resolved to be
    run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if command is None or isinstance(command, TyperGroup):
            return name, command, rest
        from nano2cli.command import load_command

        group = ctx.command_path.split()[1:]
        return name, load_command(" ".join([*group, str(name)])), rest


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Train, align, compress, evaluate and serve hybrid Mamba-2/attention language models."""


def _listed() -> None:
    """Stands in the listing for a command that has not been loaded."""


def build_app() -> typer.Typer:
    """The app with every command of the registry listed and none loaded."""

    def new_app() -> typer.Typer:
        return typer.Typer(
            cls=LazyGroup, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False
        )

    app = new_app()
    app.callback()(_root)
    apps = {"": app}
    for group in GROUPS:
        apps[group.name] = new_app()
        app.add_typer(apps[group.name], name=group.name, help=group.help, rich_help_panel=group.panel)
    for command in COMMANDS:
        group_name, _, name = command.name.rpartition(" ")
        panel = None if group_name else command.panel
        apps[group_name].command(name, help=command.help, rich_help_panel=panel)(_listed)
    return app


def _open_missing_streams() -> None:
    """Give a process that was started without stdout or stderr (`>&-`, some schedulers) /dev/null instead: its
    next open file would take the number and be written into."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            setattr(sys, name, os.fdopen(descriptor, "w"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `nano2` with the given arguments (default: the process's own) and exit."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    _open_missing_streams()
    try:
        code = build_app()(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except typer.TyperException as error:
        if not error.message.strip():  # no arguments: Typer has printed the help page
            sys.exit(error.exit_code)
        from nano2cli.failures import fail

        code = fail(error, as_json="--json" in arguments, debug=False)
    except (Exception, KeyboardInterrupt) as error:
        from nano2cli.failures import fail

        code = fail(error, as_json="--json" in arguments, debug="--debug" in arguments)
    sys.exit(code or 0)
