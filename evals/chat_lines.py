"""Chat jsonl: what a line is, and reading it with every defect named.

    {"messages": [...], "tools": [...], "thinking": true, "id": "...", "grader": {...}, "metadata": {...}}
    {"prompt": ..., "completion": ..., ...the same optional keys}

`prompt` and `completion` are two texts (plain text, no chat), or two lists of messages of one chat. A question
that is only asked, and not trained on, needs no assistant's turn and no completion.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BeforeValidator, Discriminator, PrivateAttr, Tag, ValidationError, model_validator

from evals.graders.grade import validate_spec
from model.chat.messages import Message, Strict, Tool, check_conversation, tool_name
from model.errors import ArtifactError
from model.text_lines import json_lines

SUFFIXES = (".jsonl", ".jsonl.gz")


def _kind(value: Any) -> str:
    return "text" if isinstance(value, str) else "messages"


def _id(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


TextOrMessages = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[Message], Tag("messages")], Discriminator(_kind)
]


class Line(Strict):
    """What every line of conversations may say besides its messages.

    thinking: None leaves it to the switches and, without any, to whether there is reasoning.
    """

    tools: list[Tool] | None = None
    thinking: bool | None = None
    id: Annotated[str | None, BeforeValidator(_id)] = None
    metadata: dict[str, Any] | None = None
    _place: str = PrivateAttr("")

    @property
    def place(self) -> str:
        """Where it was read, such as "chats.jsonl line 12", with what was done to it since."""
        return self._place

    def at(self, place: str) -> Self:
        """The line with the place where it was read."""
        copy = self.model_copy()
        copy._place = place
        return copy

    def _check_tools(self) -> None:
        names = [tool_name(tool) for tool in self.tools or ()]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"tools: two tools have the name {repeated[0]!r}")


L = TypeVar("L", bound=Line)


class ChatSample(Line):
    """One line of chats."""

    messages: list[Message] | None = None
    prompt: TextOrMessages | None = None
    completion: TextOrMessages | None = None
    grader: dict[str, Any] | None = None

    @property
    def is_text(self) -> bool:
        """It is plain text that is continued, and no chat."""
        return isinstance(self.prompt, str)

    @property
    def conversation(self) -> list[Message]:
        """All messages of a chat; none of plain text."""
        if self.messages is not None:
            return self.messages
        return [
            message for part in (self.prompt, self.completion) if isinstance(part, list) for message in part
        ]

    @property
    def first_trained(self) -> int:
        """The position from which assistant messages may be trained: that of the completion."""
        return len(self.prompt) if isinstance(self.prompt, list) else 0

    def trained_turns(self, episode: range) -> list[int]:
        """The positions of the assistant's turns in an episode that may be trained."""
        messages = self.conversation
        return [i for i in episode if messages[i].role == "assistant" and i >= self.first_trained]

    @property
    def content_key(self) -> str:
        """What the sample says, as text: equal for equal samples, wherever they stand."""
        said = self.model_dump(mode="json", exclude_none=True, exclude={"id", "grader", "metadata"})
        return json.dumps(said, ensure_ascii=False, sort_keys=True)

    def changed(self, what: str, **fields: Any) -> "ChatSample":
        """The sample with other fields; its place says what was done to it."""
        copy = self.model_copy(update=fields)
        copy._place = f"{self._place} ({what})"
        return copy

    @model_validator(mode="after")
    def _check(self) -> "ChatSample":
        if self.messages is not None:
            if self.prompt is not None or self.completion is not None:
                raise ValueError("has both messages and prompt or completion")
            check_conversation(self.messages)
        elif self.prompt is None or (self.completion is None and self.is_text):
            lacking = "prompt" if self.prompt is None else "completion"
            given = self.prompt is not None or self.completion is not None
            raise ValueError(f"{lacking}: is missing" if given else "has no messages")
        elif self.is_text != isinstance(self.completion, str):
            raise ValueError("completion: prompt and completion are not both texts or both lists of messages")
        elif isinstance(self.completion, str):
            self._check_text(self.completion)
        else:
            check_conversation(self.conversation, "prompt+completion")
        self._check_tools()
        return self

    def _check_text(self, completion: str) -> None:
        if not completion.strip():
            raise ValueError("completion: is empty")
        if self.tools is not None or self.thinking is not None:
            key = "thinking" if self.tools is None else "tools"
            raise ValueError(f"{key}: plain text has none; give lists of messages")


def read_chat(path: Path) -> Iterator[ChatSample]:
    """The samples of one chat jsonl, each with its place ("FILE line 12").

    Raises:
        ArtifactError: unreadable or truncated, or a line that is no sample, with file, line and field named.
    """
    if not path.name.endswith(SUFFIXES):
        raise ArtifactError(
            "is no chat jsonl",
            where=str(path),
            remedy=f"give a {' or '.join(SUFFIXES)} file; `nano2 data convert` makes one of other formats",
        )
    for row, place in json_lines(path):
        yield parse_sample(row, place)


def parse_sample(row: dict[str, Any], place: str) -> ChatSample:
    """One line's object as a sample. ArtifactError with the field named if it is none."""
    sample = parse_line(ChatSample, row, place, page="docs/sft.md")
    if sample.grader is not None:
        try:
            validate_spec(sample.grader)
        except ArtifactError as error:
            raise _broken(str(error), place, "docs/sft.md") from error
    return sample


def parse_line(kind: type[L], row: dict[str, Any], place: str, *, page: str) -> L:
    """One line's object as a `kind`, with its place. ArtifactError with the field named if it is none.

    page: of the docs, which describes the format.
    """
    try:
        line = kind.model_validate(row)
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except ValidationError as error:
        raise _broken(explain(error), place, page) from error
    except RecursionError as error:
        raise _broken("is nested too deeply", place, page) from error
    except ValueError as error:
        raise _broken(_unwritable(row, "") or str(error), place, page) from error
    return line.at(place)


def _broken(what: str, place: str, page: str) -> ArtifactError:
    return ArtifactError(what, where=place, remedy=f"repair or remove the line; {page} has the format")


def explain(error: ValidationError) -> str:
    """The first defect with the path of its field: `messages[2].tool_calls[0].function.name: ...`."""
    first = min(error.errors(), key=lambda item: item["type"] == "missing")
    location = list(first["loc"])
    if location[1:2] in (["text"], ["messages"]):
        del location[1:2]  # the tag of TextOrMessages
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    what = {
        "extra_forbidden": "is an unknown key",
        "missing": "is missing",
        "value_error": str(first.get("ctx", {}).get("error", first["msg"])),
    }.get(first["type"], first["msg"].replace("Input should be", "should be"))
    if first["type"] not in ("extra_forbidden", "missing", "value_error"):
        what = f"{what}, not {_short(first['input'])}"
    return f"{path}: {what}" if path else what


def _short(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _unwritable(value: Any, path: str) -> str:
    """Which number is not finite or which text holds half of a surrogate pair."""
    if isinstance(value, dict):
        items: Any = [(f"{path}.{key}".lstrip("."), item) for key, item in value.items()]
        items = [(f"a key of {path or 'the line'}", key) for key in value] + items
    elif isinstance(value, list):
        items = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    else:
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError:
            return f"{path}: has half of a surrogate pair, which is no text"
        except ValueError:
            return f"{path}: is {value}, which is no JSON"
        return ""
    return next((found for name, item in items if (found := _unwritable(item, name))), "")
