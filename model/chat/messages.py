"""The messages of a chat of chat jsonl, in OpenAI's form, and what a conversation of them must be like.

Everything that the chat template would refuse, and more, is refused here with the field named, so that a broken line is
found when it is read.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from model.chat.special_tokens import THINK_CLOSE, THINK_OPEN


class Strict(BaseModel):
    """Nothing is converted, no key is ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _content(value: Any) -> Any:
    """Text; text parts as the one text that they are; the object that a tool returned."""
    if value is None or isinstance(value, str | dict):
        return value
    if not isinstance(value, list):
        raise ValueError("is neither text nor a list of text parts")
    for index, part in enumerate(value):
        if not (isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)):
            raise ValueError(f'part {index} is not {{"type": "text", "text": ...}}')
        if unknown := sorted(part.keys() - {"type", "text"}):
            raise ValueError(f"part {index} has the unknown key {unknown[0]!r}")
    return "".join(part["text"] for part in value)


def _arguments(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    if not isinstance(value, str):
        raise ValueError("is neither a JSON object nor its text")
    try:
        parsed = json.loads(value, parse_constant=_refuse_constant) if value.strip() else {}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise ValueError(f"is the text of a JSON {type(parsed).__name__}, not of an object")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _tool(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")
    if value.get("type", "function") != "function":
        raise ValueError(f"has the type {value['type']!r}; only 'function' is known")
    function = value.get("function", value)
    if not isinstance(function, dict):
        raise ValueError("function is no JSON object")
    if not isinstance(function.get("name"), str) or not function["name"].strip():
        raise ValueError("has no name")
    if not isinstance(function.get("parameters", {}), dict | None):
        raise ValueError("parameters is no JSON object")
    return value


Content = Annotated[str | dict[str, Any] | None, PlainValidator(_content)]
Tool = Annotated[dict[str, Any], BeforeValidator(_tool)]
"""A tool as the template takes it: `{"type": "function", "function": {...}}`, or the inner object alone."""


class Function(Strict):
    """Arguments are a JSON object or its text, which the template writes as it is."""

    name: str = Field(min_length=1)
    arguments: Annotated[str | dict[str, Any], PlainValidator(_arguments)]


class ToolCall(Strict):
    function: Function
    id: str | None = None
    type: Literal["function"] = "function"


class Message(Strict):
    """One message; which keys it may have depends on its role (`check_conversation`)."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Content = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        """The content as text, an object as JSON."""
        if isinstance(self.content, dict):
            return json.dumps(self.content, ensure_ascii=False)
        return self.content or ""

    @property
    def trace(self) -> str:
        """The reasoning: of its own field, or of a raw generation, whose content still has its think tags."""
        return self._parts()[0]

    @property
    def answer(self) -> str:
        """The content without the reasoning of a raw generation."""
        return self._parts()[1]

    @property
    def is_empty(self) -> bool:
        """Neither an answer nor a call."""
        return not (self.answer or self.tool_calls)

    def with_trace(self, trace: str) -> "Message":
        """The same message with another reasoning, "" for none; think tags in its answer stay a part of the answer."""
        return self.model_copy(update={"content": self.answer, "reasoning_content": trace, "reasoning": None})

    def for_template(self) -> dict[str, Any]:
        """The message as the chat template takes it."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        reasoning = self.reasoning if self.reasoning_content is None else self.reasoning_content
        if reasoning is not None:
            message["reasoning_content"] = reasoning
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": call.function.arguments},
                }
                for call in self.tool_calls
            ]
        return message

    def _parts(self) -> tuple[str, str]:
        """(reasoning, answer), as the template tells them apart."""
        content = self.text.strip()
        reasoning = self.reasoning if self.reasoning_content is None else self.reasoning_content
        if self.role != "assistant" or reasoning is not None:
            return (reasoning or "").strip(), content
        before, closing, after = content.rpartition(THINK_CLOSE)
        if closing:
            return before.removeprefix(THINK_OPEN).strip(), after.strip()
        if content.startswith(THINK_OPEN):
            return content.removeprefix(THINK_OPEN).strip(), ""
        return "", content


def check_conversation(messages: Sequence[Message], name: str = "messages") -> None:
    """Refuses (ValueError, the field named) an order or content of messages that no prompt could have."""
    if not messages:
        raise ValueError(f"{name}: is empty")
    calls: list[ToolCall] = []
    answered = 0
    for index, message in enumerate(messages):
        where = f"{name}[{index}]"
        _check_keys(message, where)
        if message.role == "system" and index:
            raise ValueError(f"{where}.role: a system message that is not the first")
        if message.role != "tool":
            calls, answered = list(message.tool_calls or ()), 0
            _check_ids(calls, where)
            continue
        if not calls:
            raise ValueError(f"{where}.role: a tool result without a tool call before it")
        if answered == len(calls):
            raise ValueError(f"{where}.role: {answered + 1} tool results for {len(calls)} tool calls")
        _check_answers(message, calls[answered], calls, where)
        answered += 1


def _check_keys(message: Message, where: str) -> None:
    own = {"assistant": {"reasoning_content", "reasoning", "tool_calls"}, "tool": {"tool_call_id", "name"}}
    for role, keys in own.items():
        for key in sorted(keys):
            if message.role != role and getattr(message, key) is not None:
                raise ValueError(f"{where}.{key}: a {message.role} message has none")
    if isinstance(message.content, dict) and message.role != "tool":
        raise ValueError(f"{where}.content: is a JSON object; only a tool result may be one")
    if message.role in ("user", "tool") and message.content is None:
        raise ValueError(f"{where}.content: is missing")
    if message.role == "user" and not message.text.strip():
        raise ValueError(f"{where}.content: is empty")
    if message.role == "assistant" and message.content is None and not message.tool_calls:
        raise ValueError(f"{where}.content: is missing, and there are no tool_calls")
    if None not in (message.reasoning_content, message.reasoning) and (
        message.reasoning_content != message.reasoning
    ):
        raise ValueError(f"{where}.reasoning: differs from reasoning_content")


def _check_ids(calls: Sequence[ToolCall], where: str) -> None:
    ids = [call.id for call in calls if call.id is not None]
    if len(set(ids)) < len(ids):
        raise ValueError(f"{where}.tool_calls: two calls have one id")


def _check_answers(result: Message, call: ToolCall, calls: Sequence[ToolCall], where: str) -> None:
    """Results are shown in the order of the calls, so an id that says otherwise would mix them up."""
    if result.tool_call_id is None or call.id is None or result.tool_call_id == call.id:
        return
    if any(other.id == result.tool_call_id for other in calls):
        raise ValueError(f"{where}.tool_call_id: the results are not in the order of the calls")
    raise ValueError(f"{where}.tool_call_id: no call has the id {result.tool_call_id!r}")


def tool_name(tool: Mapping[str, Any]) -> str:
    """The name of a tool in either form."""
    return str(tool.get("function", tool)["name"])
