"""A conversation as text or tokens, by the one template file that lies in every artifact.

transformers renders the template, so what is trained on here is what transformers and vLLM render to serve.
`encode` adds to `apply_chat_template` the assistant mask of an open conversation and, whatever the version,
protection against control tokens that a user writes (docs/chat.md).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from model.chat.control_tokens import MessageMapping, ToolMapping, break_control_names
from model.chat.special_tokens import THINK_OPEN
from model.errors import ArtifactError

TEMPLATE_PATH = Path(__file__).with_name("chat_template.jinja")
TEMPLATE_REMEDY = f"replace its chat_template.jinja by {TEMPLATE_PATH}"

_GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True, slots=True)
class EncodedChat:
    """Token ids and, of the same length, True where the assistant generated the token.

    The mask covers reasoning, answer, tool calls and the stop token `<SPECIAL_12>` of every assistant turn,
    but not the prefill (`<think>` and a newline, or `<think></think>`), which is the end of the prompt.
    """

    ids: list[int]
    assistant_mask: list[bool]


def ends_in_thinking(prompt: str) -> bool:
    """Whether the model goes on inside of its thinking."""
    return prompt.rstrip().endswith(THINK_OPEN)


@cache
def read_template() -> str:
    """The text of chat_template.jinja, as it is written into an artifact."""
    return TEMPLATE_PATH.read_text(encoding="utf-8")


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[MessageMapping],
    *,
    tools: Sequence[ToolMapping] | None = None,
    thinking: bool | None = None,
    add_generation_prompt: bool = False,
    continue_final_message: bool | str = False,
) -> str:
    """The conversation as text, the same as `tokenizer.apply_chat_template(..., tokenize=False)`.

    The tokenizer's own template is used, ours where it has none. `thinking` overrides the `/think` and
    `/no_think` of the messages; None leaves it to them. `continue_final_message` leaves the last assistant
    message open; "reasoning_content" leaves its reasoning open. Raises ArtifactError for a malformed message.
    """
    _check(messages)
    return _render(tokenizer, messages, tools, thinking, add_generation_prompt, continue_final_message).text


def encode(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[MessageMapping],
    *,
    tools: Sequence[ToolMapping] | None = None,
    thinking: bool | None = None,
    add_generation_prompt: bool = False,
    continue_final_message: bool | str = False,
) -> EncodedChat:
    """The conversation as token ids with the assistant mask; the arguments are those of `render`.

    Only the template writes control tokens: the name of an added token inside a message or a tool is encoded
    as ordinary text. The one exception: thinking tags in the content of an assistant message without a
    reasoning field, which may be a raw generation. Raises ArtifactError for a malformed message, and for a
    finished conversation under a template without `{% generation %}` markers, which gives no mask.
    """
    if not tokenizer.is_fast:
        raise ArtifactError(
            "the tokenizer maps no tokens to characters",
            where=str(tokenizer.name_or_path),
            remedy="give the artifact a tokenizer.json",
        )
    _check(messages)
    control_names = [name for name in tokenizer.added_tokens_encoder if len(name) > 1 and not name.isspace()]
    messages, tools, break_character = break_control_names(messages, tools, control_names)
    rendered = _render(tokenizer, messages, tools, thinking, add_generation_prompt, continue_final_message)
    open_ended = add_generation_prompt or continue_final_message
    has_assistant = any(message.get("role") == "assistant" for message in messages)
    if rendered.generation_spans is None and has_assistant and not open_ended:
        raise ArtifactError(
            "the chat template has no {% generation %} markers, so no assistant mask can be made",
            where=str(tokenizer.name_or_path),
            remedy=TEMPLATE_REMEDY,
        )

    ids: list[int] = []
    mask: list[bool] = []
    spans = rendered.generation_spans or []
    start = 0
    for piece in rendered.text.split(break_character) if break_character else [rendered.text]:
        encoding = tokenizer(piece, add_special_tokens=False, return_offsets_mapping=True)
        ids += encoding["input_ids"]
        mask += _inside(spans, (start + first for first, _ in encoding["offset_mapping"]))
        start += len(piece) + 1
    return EncodedChat(ids, mask)


@dataclass(frozen=True, slots=True)
class _Rendered:
    text: str
    generation_spans: list[tuple[int, int]] | None
    """Ascending character ranges; None where the template has no markers."""


def _render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[MessageMapping],
    tools: Sequence[ToolMapping] | None,
    thinking: bool | None,
    add_generation_prompt: bool,
    continue_final_message: bool | str,
) -> _Rendered:
    template = _template_of(tokenizer, tools)
    marks = _GENERATION_TAG.search(template) is not None
    variables: dict[str, Any] = dict(tokenizer.special_tokens_map)
    if thinking is not None:
        variables["enable_thinking"] = thinking
    # As apply_chat_template does: a field that is None is a field that is not there.
    present = [{key: value for key, value in message.items() if value is not None} for message in messages]
    try:
        rendered: Any = render_jinja_template(
            conversations=[present],
            tools=[dict(tool) for tool in tools] if tools else None,
            chat_template=template,
            return_assistant_tokens_mask=marks,
            continue_final_message=continue_final_message,
            add_generation_prompt=add_generation_prompt,
            **variables,
        )
    except Exception as error:  # a template is a program, and may fail in any way
        raise _explained(error) from error
    texts, spans = rendered
    return _Rendered(texts[0], spans[0] if marks else None)


def _template_of(tokenizer: PreTrainedTokenizerBase, tools: Sequence[ToolMapping] | None) -> str:
    """Of several templates the one that transformers takes: that for tools where there are tools, else the default."""
    if not tokenizer.chat_template:
        return read_template()
    try:
        return tokenizer.get_chat_template(tools=[dict(tool) for tool in tools] if tools else None)
    except ValueError as error:
        raise ArtifactError(
            "the tokenizer has several chat templates, and none is named default",
            where=str(tokenizer.name_or_path),
            remedy="name one of them default",
        ) from error


def _explained(error: Exception) -> ArtifactError:
    """Whether the template is broken, refuses the chat in its own words, or fails on it."""
    text = str(error) or type(error).__name__
    if isinstance(error, jinja2.exceptions.TemplateSyntaxError):
        what, remedy = f"the chat template is no valid Jinja ({text})", TEMPLATE_REMEDY
    elif type(error) is jinja2.exceptions.TemplateError:  # what raise_exception raises
        what, remedy = f"the chat template refuses the chat: {text}", "correct the message"
    else:
        what, remedy = (
            f"the chat template fails on the chat ({text})",
            f"correct the message, or {TEMPLATE_REMEDY}",
        )
    return ArtifactError(what, where="chat", remedy=remedy)


def _check(messages: Sequence[MessageMapping]) -> None:
    """What the template cannot see: that there are messages, and that tool-call arguments are JSON."""
    if not messages:
        raise ArtifactError("the conversation is empty", where="chat", remedy="give at least one message")
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping):
            raise ArtifactError(
                "no JSON object", where=f"message {number}", remedy='give it "role" and "content"'
            )
        for call in message.get("tool_calls") or ():
            function = call.get("function", call) if isinstance(call, Mapping) else None
            text = function.get("arguments") if isinstance(function, Mapping) else None
            if isinstance(text, str) and text.strip() and not _is_json_object(text):
                raise ArtifactError(
                    f"the arguments of a tool call are no JSON object: {text[:60]!r}",
                    where=f"message {number}",
                    remedy="write them as one JSON object, or as its JSON text",
                )


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _inside(spans: Iterable[tuple[int, int]], positions: Iterable[int]) -> Iterator[bool]:
    """For ascending positions, whether each lies in one of the ascending spans."""
    remaining = iter(spans)
    start, end = next(remaining, (0, 0))
    for position in positions:
        while position >= end > 0:
            start, end = next(remaining, (0, 0))
        yield start <= position < end
