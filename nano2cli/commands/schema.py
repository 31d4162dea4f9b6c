"""`nano2 schema COMMAND`: the settings of a command as JSON schema."""

import json
from typing import Annotated

from pydantic import Field

from model.errors import UsageError
from nano2cli.registry import COMMANDS, find_command
from nano2cli.suggest import did_you_mean
from stages.common.config import Positional, StageConfig
from stages.common.stage import Stage, StageContext, StageResult, load_target


class SchemaConfig(StageConfig):
    """Print the JSON schema of a command's settings: names, types, defaults and descriptions, for editors
    and tools that write recipes."""

    command: Annotated[tuple[str, ...], Positional()] = Field(
        (), description="The command, as typed: pretrain, data prepare."
    )
    list: bool = Field(False, description="List the commands that have a schema.")


STAGE = Stage(name="schema", kind=None, config=SchemaConfig, run="nano2cli.commands.schema:run")


def run(config: SchemaConfig, context: StageContext) -> StageResult:
    """The schema on stdout, and under `data` with --json. UsageError for a command that there is not."""
    names = [command.name for command in COMMANDS]
    if config.list:
        context.reporter.output("\n".join(names))
        return StageResult(data={"commands": names})
    name = " ".join(config.command)
    command = find_command(name)
    if command is None:
        what = f"no command {name!r}{did_you_mean(name, names)}" if name else "which command?"
        raise UsageError(what, where="nano2 schema", remedy="nano2 schema --list lists the commands")
    stage: Stage = load_target(command.target)
    schema = stage.config.model_json_schema()
    context.reporter.output(json.dumps(schema, indent=2))
    return StageResult(data=schema)
