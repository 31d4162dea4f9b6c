"""How each request is to be answered, and what is told of it afterwards."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from lm_eval.api.instance import Instance

from evals.generation_settings import GenerationSettings
from model.errors import UsageError


class RequestSettings:
    """The settings of requests, and for each task a note of those that it had.

    max_length: tokens of prompt and answer together. thinking_sampling: how an answer is sampled that begins inside of the
    thinking, if the task says nothing of sampling; None: greedily.
    """

    def __init__(self, max_length: int, thinking_sampling: Mapping[str, Any] | None) -> None:
        self._max_length = max_length
        self._thinking_sampling = thinking_sampling
        self._used: dict[str, Counter[tuple[bool, GenerationSettings]]] = {}

    def of(self, request: Instance, opened: bool, max_turns: int | None = None) -> GenerationSettings:
        """The settings of a request. UsageError for what is unknown, or leaves the prompt no room.

        opened: it is asked inside of the thinking. max_turns: where it does not say; None: it has but one turn.
        """
        settings = GenerationSettings.of(
            request.args[1], request.task_name, self._thinking_sampling if opened else None
        )
        if settings.max_tokens >= self._max_length:
            raise UsageError(
                f"the task asks for {settings.max_tokens} new tokens; with its prompt the model reads {self._max_length}",
                where=request.task_name or "",
                remedy="give a larger --max-length, or fewer tokens with --gen max_gen_toks=N",
            )
        if settings.max_turns is None or max_turns is None:
            settings = replace(settings, max_turns=max_turns)
        self._used.setdefault(request.task_name or "", Counter())[opened, settings] += 1
        return settings

    def by_task(self) -> dict[str, list[dict[str, Any]]]:
        """For each task the settings that its requests had, with their number."""
        return {
            task: [
                {"requests": count, "thinking": opened, **_as_told(settings)}
                for (opened, settings), count in used.items()
            ]
            for task, used in self._used.items()
        }


def _as_told(settings: GenerationSettings) -> dict[str, Any]:
    """As results.json has them: `max_turns` only of episodes."""
    return {name: value for name, value in asdict(settings).items() if (name, value) != ("max_turns", None)}
