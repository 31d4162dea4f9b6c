"""What an episode is asked: the part of a chat that the model is shown, and how what it does is judged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from evals.chat_lines import ChatSample
from evals.environments.session import open_session
from model.chat.episodes import episodes_of, thinking_of
from model.errors import ArtifactError


@dataclass(frozen=True)
class Task:
    """A question, its tools and its grader.

    messages: as the chat template takes them; the last is a user's or a tool's. thinking: what the template is told; None
    leaves it to the switches. place: where the task was read, for messages.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    thinking: bool | None
    grader: Mapping[str, Any] | None
    id: str
    place: str

    @classmethod
    def of(cls, sample: ChatSample) -> "Task":
        """The task of a line of chat jsonl. ArtifactError if it is no chat that the assistant could be asked."""
        shown, thinking = shown_part(sample)
        return cls(
            messages=[message.for_template() for message in sample.conversation[:shown]],
            tools=sample.tools,
            thinking=thinking,
            grader=sample.grader,
            id=sample.id or "",
            place=sample.place,
        )


class TaskPrompt(str):
    """The prompt of a task as text, for one turn of a model that can do no more; ours plays the task."""

    task: Task

    @classmethod
    def of(cls, text: str, task: Task) -> Self:
        prompt = cls(text)
        prompt.task = task
        return prompt


def has_environment(grader: Mapping[str, Any] | None) -> bool:
    """Whether its tasks are played in several turns."""
    return grader is not None and open_session(grader) is not None


def shown_part(sample: ChatSample) -> tuple[int, bool | None]:
    """How many of a chat's messages are shown, and what the template is told as `thinking`.

    Hidden is the assistant's last turn, if the chat ends in one that training would train. Where the grader has an
    environment, everything behind the last user message is, since an episode begins with the environment as it was. Thinking
    is as training on what is hidden has it; None where nothing decides it. Raises ArtifactError.
    """
    if sample.is_text:
        raise refusal("is plain text, and no chat that the assistant is to answer", sample.place)
    messages = sample.conversation
    span = episodes_of(messages)[-1]
    turns = sample.trained_turns(span)
    if has_environment(sample.grader):
        users = [index for index in span if messages[index].role == "user"]
        shown = users[0] + 1 if users else 0
        turns = [index for index in span if messages[index].role == "assistant"]
    else:
        shown = len(messages) - 1 if turns and turns[-1] == len(messages) - 1 else len(messages)
    if not shown or messages[shown - 1].role not in ("user", "tool"):
        raise refusal("has no message of a user or a tool that the assistant is to answer", sample.place)
    if shown == len(messages):
        return shown, sample.thinking
    return shown, thinking_of(sample.thinking, messages, turns).told


def refusal(what: str, place: str) -> ArtifactError:
    return ArtifactError(what, where=place, remedy="correct the line; docs/eval.md says what it has to hold")
