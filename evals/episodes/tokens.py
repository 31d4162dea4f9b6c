"""The tokens of an episode that the model does not choose: the prompt, and what stands between two of its turns.

A turn's own tokens are never made again from its text. What the chat template writes behind a turn (its end, the tool
results, the next generation prompt) is found in the rendering of the whole conversation, as all that follows the stop token
of the last turn, so that it is right also for a template that shows earlier turns in another way than they were generated.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from evals.episodes.task import Task
from model.chat.special_tokens import THINK_OPEN
from model.chat.template import TEMPLATE_REMEDY, encode
from model.errors import ArtifactError

_LOOKED_AT = 16
"""More tokens than any tokenizer spells `<think>` and a newline in."""


def prompt_ids(tokenizer: Any, task: Task) -> list[int]:
    """The task's messages, open for the first turn. ArtifactError names the task."""
    return _encoded(tokenizer, task, ())


def ids_between(
    tokenizer: Any,
    stop_ids: frozenset[int],
    task: Task,
    said: Sequence[Mapping[str, Any]],
    stops_before: int,
) -> list[int]:
    """What stands between the last assistant turn of `said` and the next.

    said: what was said behind the task's messages; ends with the tool results. stops_before: stop tokens in the prompt.
    Raises ArtifactError for a template that ends no turn with a stop token.
    """
    ids = _encoded(tokenizer, task, said)
    turns = sum(message["role"] == "assistant" for message in said)
    stops = [place for place, token in enumerate(ids) if token in stop_ids]
    if len(stops) < stops_before + turns:
        raise ArtifactError(
            "the chat template does not end the assistant's turns with a token that generation stops at",
            where=str(tokenizer.name_or_path),
            remedy=TEMPLATE_REMEDY,
        )
    return ids[stops[stops_before + turns - 1] + 1 :]


def opens_thinking(tokenizer: Any, ids: Sequence[int]) -> bool:
    """Whether the model goes on inside of its thinking."""
    text: str = tokenizer.decode(list(ids[-_LOOKED_AT:]), skip_special_tokens=False)
    return text.rstrip().endswith(THINK_OPEN)


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
