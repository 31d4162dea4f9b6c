"""A config from defaults, recipe and flags, in this order; what pydantic refuses becomes one clear
UsageError."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.errors import UsageError
from nano2cli.options import FieldOption, field_options
from nano2cli.recipe import Recipe, load_recipe
from nano2cli.suggest import did_you_mean
from stages.common.config import StageConfig
from stages.common.stage import Stage

_PLAIN_WORDS = {
    "int_parsing": "is not a whole number",
    "int_type": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_parsing": "is not a number",
    "float_type": "is not a number",
    "finite_number": "is not a finite number",
    "bool_parsing": "is not true or false",
    "bool_type": "is not true or false",
    "string_type": "is not text (in a recipe, put it in quotes)",
    "path_type": "is not a path",
    "list_type": "is not a list",
    "tuple_type": "is not a list",
    "dict_type": "is not a mapping",
    "model_type": "is not a mapping",
    "model_attributes_type": "is not a mapping",
}
_LIMITS = {
    "greater_than": "must be greater than",
    "greater_than_equal": "must be at least",
    "less_than": "must be less than",
    "less_than_equal": "must be at most",
}


def build_config(stage: Stage, recipe_path: Path | None, flags: Mapping[str, Any]) -> StageConfig:
    """The config of one run. `flags` holds the raw value of each field, None or empty where it was not given.

    Raises UsageError naming the recipe's line or the flag.
    """
    options = {option.name: option for option in field_options(stage.config)}
    recipe = load_recipe(recipe_path, stage.name, set(options)) if recipe_path else Recipe()
    settings = dict(recipe.settings)
    given = {name: raw for name, raw in flags.items() if raw not in (None, [], ())}
    for name, raw in given.items():
        settings[name] = options[name].value(raw, recipe.settings.get(name))
    try:
        return stage.config.model_validate(settings)
    except ValidationError as error:
        raise _explain(error, stage, recipe, given, options) from None


def _explain(
    error: ValidationError,
    stage: Stage,
    recipe: Recipe,
    given: Mapping[str, Any],
    options: Mapping[str, FieldOption],
) -> UsageError:
    """The first of pydantic's complaints, in our words and with its place; the other settings only by name."""
    problems = error.errors()
    first, path = problems[0], problems[0]["loc"]
    command, help_page = f"nano2 {stage.name}", f"see nano2 {stage.name} --help"
    others = {str(problem["loc"][0]) for problem in problems if problem["loc"]} - {
        str(path[0]) if path else ""
    }
    also = f"; also wrong: {', '.join(options[name].flag for name in sorted(others))}" if others else ""
    if not path:  # a rule about several settings together
        return UsageError(_message(first, None) + also, where=command, remedy=help_page)
    name = str(path[0])
    option = options[name]
    missing = [str(problem["loc"][0]) for problem in problems if _is_missing_setting(problem)]
    if _is_missing_setting(first):
        flags = ", ".join(options[name].flag for name in missing)
        return UsageError(
            f"{flags} {'are' if missing[1:] else 'is'} required",
            where=command,
            remedy=f"give {'them' if missing[1:] else 'it'}, or a recipe with --config; {help_page}",
        )
    if name in given:
        where, written = option.flag, given[name]
    elif name in recipe.settings:
        where, written = recipe.where(name), recipe.settings[name]
    else:
        where, written = f"default of {option.flag}", None
    if inner := ".".join(str(part) for part in path[1:] if _is_in(part, written)):
        where += f" ({inner})"
    return UsageError(_message(first, option) + also, where=where, remedy=help_page)


def _is_missing_setting(problem: Any) -> bool:
    return problem["type"] == "missing" and len(problem["loc"]) == 1


def _is_in(part: int | str, written: Any) -> bool:
    """Does this part of an error's path stand in what the user wrote? Others name a branch of a union."""
    if isinstance(part, int):
        return True
    if isinstance(written, list):  # --shape d=4
        return any(str(item).startswith(f"{part}=") for item in written)
    return isinstance(written, dict) and part in written


def _message(problem: Any, option: FieldOption | None) -> str:
    kind, shown = problem["type"], _shorten(problem["input"])
    if kind in _PLAIN_WORDS:
        return f"{shown} {_PLAIN_WORDS[kind]}"
    if kind in _LIMITS:
        return f"{shown} {_LIMITS[kind]} {next(iter(problem['ctx'].values()))}"
    if kind in ("too_short", "string_too_short"):
        least = problem["ctx"]["min_length"]
        return f"{least} or more are needed" if kind == "too_short" else f"{shown} is empty or too short"
    if kind in ("literal_error", "enum") and option is not None:
        choices = option.choices
        listed = ", ".join(choices) if choices else str(problem["ctx"]["expected"])
        return f"{shown} is not one of {listed}{did_you_mean(problem['input'], choices)}"
    if kind == "missing":
        return f"{problem['loc'][-1]!r} is missing"
    if kind == "extra_forbidden":
        return f"{problem['loc'][-1]!r} is not a setting here"
    if kind in ("value_error", "assertion_error"):
        return str(problem["ctx"]["error"])
    return f"{shown}: {problem['msg']}"


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
