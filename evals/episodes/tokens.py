"""The tokens of an episode that the model does not choose: the prompt, and what stands between two of its turns.

A turn's own tokens are never made again from its text. What the chat template writes behind a turn (its end, the tool
results, the next generation prompt) is found in the rendering of the whole conversation, as all that follows the first stop
token which the turn's prompt did not have, so that it is right also for a template that shows earlier turns in another way
than they were generated.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from evals.episodes.task import Task
from model.chat.template import TEMPLATE_REMEDY, encode, ends_in_thinking
from model.errors import ArtifactError

_LOOKED_AT = 16
"""More tokens than any tokenizer spells `<think>` and a newline in."""


def prompt_ids(tokenizer: Any, task: Task) -> list[int]:
    """The task's messages, open for the first turn. ArtifactError names the task."""
    return _encoded(tokenizer, task, ())


class Between:
    """What stands between the turns of one episode, asked for turn by turn. prompt: its first, as `prompt_ids` gives it."""

    def __init__(self, tokenizer: Any, stop_ids: frozenset[int], task: Task, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._stop_ids = stop_ids
        self._task = task
        self._stops = len(self._places(prompt))  # in the prompt of the last turn

    def ids(self, said: Sequence[Mapping[str, Any]]) -> list[int]:
        """What stands behind the last assistant turn of `said`, which are the messages behind the task's, up to the tool
        results that answer it. Raises ArtifactError for a template that ends no turn with a stop token."""
        whole = _encoded(self._tokenizer, self._task, said)
        places = self._places(whole)
        if len(places) <= self._stops:
            raise ArtifactError(
                "the chat template does not end the assistant's turns with a token that generation stops at",
                where=str(self._tokenizer.name_or_path),
                remedy=TEMPLATE_REMEDY,
            )
        end = places[self._stops]
        self._stops = len(places)
        return whole[end + 1 :]

    def _places(self, ids: Sequence[int]) -> list[int]:
        return [place for place, token in enumerate(ids) if token in self._stop_ids]


def opens_thinking(tokenizer: Any, ids: Sequence[int]) -> bool:
    """Whether the model goes on inside of its thinking."""
    return ends_in_thinking(tokenizer.decode(list(ids[-_LOOKED_AT:]), skip_special_tokens=False))


def _encoded(tokenizer: Any, task: Task, said: Sequence[Mapping[str, Any]]) -> list[int]:
    try:
        return encode(
            tokenizer,
            [*task.messages, *said],
            tools=task.tools,
            thinking=task.thinking,
            add_generation_prompt=True,
        ).ids
    except ArtifactError as error:
        raise ArtifactError(error.what, where=task.place or error.where, remedy=error.remedy) from error
