"""A Typer command from a `Stage`: its config's flags, the harness's own flags, and what happens when it is
invoked."""

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from model.errors import InterruptedRunError, PlanRefusedError
from nano2cli.failures import abandon_stdout, fail, print_line
from nano2cli.options import SETTINGS_PANEL, field_options
from nano2cli.registry import find_command
from stages.common.ranks import is_first
from stages.common.stage import Stage, load_target

RUN_PANEL = "Run"

# Libraries' own progress bars and advice would break into ours; a toolchain over local files never asks a
# hub.
_QUIET_LIBRARIES = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}


@dataclass(frozen=True)
class RunFlags:
    """The flags that the harness gives every command, where they make sense."""

    out: Path | None = None
    config: Path | None = None
    plan: bool = False
    json: bool = False
    debug: bool = False
    overwrite: bool = False
    keep_run: bool = False


def load_command(name: str) -> Any:
    """The Typer command typed as `name`, its stage imported."""
    entry = find_command(name)
    assert entry is not None, name
    stage: Stage = load_target(entry.target)
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    page = inspect.getdoc(stage.config) or entry.help
    paragraphs = (" ".join(paragraph.split()) for paragraph in page.split("\n\n"))
    app.command(name.rpartition(" ")[2], help="\n\n".join(paragraphs))(_function(stage))
    return typer.main.get_command(app)


def _function(stage: Stage) -> Callable[..., int]:
    """A function with one keyword parameter a flag: this is what Typer reads a command from."""
    harness = _harness_parameters(stage)
    options = field_options(stage.config)
    options.sort(
        key=lambda option: option.panel != SETTINGS_PANEL
    )  # the page begins with the general settings
    fields = [option.parameter() for option in options]
    if clash := {parameter.name for parameter in harness} & {parameter.name for parameter in fields}:
        raise TypeError(
            f"{stage.config.__name__} has fields named like flags of every command: {sorted(clash)}"
        )

    def function(**values: Any) -> int:
        flags = RunFlags(**{parameter.name: values.pop(parameter.name) for parameter in harness})
        return execute(stage, flags, values)

    function.__signature__ = inspect.Signature([*fields, *harness])  # type: ignore[attr-defined]
    return function


def _harness_parameters(stage: Stage) -> list[inspect.Parameter]:
    def parameter(name: str, kind: Any, default: Any, *flags: str, **settings: Any) -> inspect.Parameter:
        option = typer.Option(*flags, rich_help_panel=RUN_PANEL, show_default=False, **settings)
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
        )

    parameters = []
    if stage.kind is not None:
        help_text = f"Directory to write the {stage.kind} to."
        parameters.append(parameter("out", Path | None, None, "--out", "-o", help=help_text, metavar="DIR"))
    if stage.config.model_fields:
        help_text = "YAML recipe with settings; flags override it."
        parameters.append(parameter("config", Path | None, None, "--config", help=help_text, metavar="FILE"))
    if stage.plan is not None:
        help_text = "Print sizes, memory and time, and run nothing."
        parameters.append(parameter("plan", bool, False, "--plan", help=help_text))
    if stage.kind is not None:
        help_text = "Replace what is at OUT, or in OUT.run, if it differs."
        parameters.append(parameter("overwrite", bool, False, "--overwrite", help=help_text))
    if stage.kind is not None and stage.resumable:
        help_text = "Keep OUT.run, the resume state, after success."
        parameters.append(parameter("keep_run", bool, False, "--keep-run", help=help_text))
    help_text = "Print the result as one JSON object on the last line of stdout."
    parameters.append(parameter("json", bool, False, "--json", help=help_text))
    help_text = "Print a traceback if it fails."
    parameters.append(parameter("debug", bool, False, "--debug", help=help_text))
    return parameters


def execute(stage: Stage, flags: RunFlags, values: dict[str, Any]) -> int:
    """Run a command and print its result or failure. Returns the exit code."""
    from nano2cli.console import result_stream, to_json

    for name, value in _QUIET_LIBRARIES.items():
        os.environ.setdefault(name, value)
    payload: dict[str, Any] = {"command": stage.name}
    failure: BaseException | None = None
    try:
        with result_stream() as stream:
            failure = _work(stage, flags, values, stream, payload)
    except BrokenPipeError:
        abandon_stdout()
    except KeyboardInterrupt:
        failure = InterruptedRunError("interrupted", where=f"nano2 {stage.name}")
    except (Exception, SystemExit) as error:
        failure = error
    if failure is None and flags.json and is_first():
        try:
            print_line(to_json(payload))
        except OSError as error:
            failure = error
    if failure is None:
        return 0
    return fail(failure, as_json=flags.json, debug=flags.debug, payload=payload)


def _work(stage: Stage, flags: RunFlags, values: dict[str, Any], stream: Any, payload: dict[str, Any]) -> Any:
    """Do what the command line asks and show it. Fills `payload` for --json; returns a failure that has a
    result."""
    from nano2cli.console import ResultConsole, outcome_payload
    from nano2cli.progress import TerminalReporter
    from nano2cli.settings import build_config

    config = build_config(stage, flags.config, values)
    results = None if flags.json or not is_first() else ResultConsole(stream)
    if flags.plan and (plan := stage.call_plan(config, flags.out)):
        payload.update(status="planned", plan=plan.model_dump(mode="json"))
        if results:
            results.plan(plan)
        return PlanRefusedError("; ".join(plan.refusals), where=plan.title) if plan.refusals else None

    from stages.common.harness import run_stage

    with TerminalReporter(results, stream) as reporter:
        outcome = run_stage(
            stage,
            config,
            out=flags.out,
            reporter=reporter,
            command=["nano2", *sys.argv[1:]],
            overwrite=flags.overwrite,
            keep_run=flags.keep_run,
        )
    payload.update(outcome_payload(outcome))
    if results:
        results.outcome(outcome)
    return outcome.result.failure
