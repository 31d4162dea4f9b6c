"""lm-eval's requests, as a task makes them."""

from typing import Any

from lm_eval.api.instance import Instance


def instances(kind: Any, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, args, index, ("task", index, 1)) for index, args in enumerate(arguments)]
