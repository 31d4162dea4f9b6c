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
    problems = error.errors()
    first = problems[0]
    help_page = f"see nano2 {stage.name} --help"
    others = {str(problem["loc"][0]) for problem in problems if problem["loc"]} - {
        str(first["loc"][:1] and first["loc"][0])
    }
    also = f"; also wrong: {', '.join(options[name].flag for name in sorted(others))}" if others else ""
    if not first["loc"]:
        return UsageError(_message(first, None) + also, where=f"nano2 {stage.name}", remedy=help_page)
    name = str(first["loc"][0])
    option = options[name]
    if first["type"] == "missing" and len(first["loc"]) == 1:
        how = (
            f"give {option.flag}" if option.positional else f"give {option.flag}, or set {name!r} in a recipe"
        )
        return UsageError(f"{option.flag} is required{also}", where=f"nano2 {stage.name}", remedy=how)
    inner = ".".join(
        str(part) for part in first["loc"][1:] if _is_place(part, given.get(name), recipe.settings.get(name))
    )
    if name in given:
        where = option.flag
    elif name in recipe.settings:
        where = recipe.where(name)
    else:
        where = f"default of {option.flag}"
    return UsageError(
        _message(first, option) + also, where=f"{where} ({inner})" if inner else where, remedy=help_page
    )


def _is_place(part: int | str, given: Any, from_recipe: Any) -> bool:
    """Does this part of an error's location stand in what the user wrote? (Others name a branch of a
    union.)"""
    if isinstance(part, int):
        return True
    written = given if given is not None else from_recipe
    return (
        any(str(item).startswith(f"{part}=") for item in written)
        if isinstance(written, list)
        else (isinstance(written, dict) and part in written)
    )


def _message(problem: Any, option: FieldOption | None) -> str:
    kind, value = problem["type"], problem["input"]
    if kind in _PLAIN_WORDS:
        return f"{value!r} {_PLAIN_WORDS[kind]}"
    if kind in _LIMITS:
        return f"{value!r} {_LIMITS[kind]} {next(iter(problem['ctx'].values()))}"
    if kind in ("literal_error", "enum") and option is not None:
        choices = option.choices
        listed = ", ".join(choices) if choices else str(problem["ctx"]["expected"])
        return f"{value!r} is not one of {listed}{did_you_mean(value, choices)}"
    if kind == "extra_forbidden":
        return f"{problem['loc'][-1]!r} is not a setting here"
    if kind in ("value_error", "assertion_error"):
        return str(problem["ctx"]["error"])
    return f"{value!r}: {problem['msg']}"
