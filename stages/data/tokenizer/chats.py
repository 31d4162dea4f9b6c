"""The text of chats: what is said, thought and called, without the marks of a template."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from evals.chat_lines import read_chat
from model.chat.messages import Message, ToolCall


def chat_texts(paths: Iterable[Path]) -> Iterator[str]:
    """One text a sample. ArtifactError for a line that is none."""
    for path in paths:
        for sample in read_chat(path):
            plain = [part for part in (sample.prompt, sample.completion) if isinstance(part, str)]
            tools = [json.dumps(tool, ensure_ascii=False) for tool in sample.tools or ()]
            said = [piece for message in sample.conversation for piece in _pieces(message)]
            yield "\n".join([*plain, *tools, *said])


def _pieces(message: Message) -> Iterator[str]:
    for piece in (message.reasoning_content or message.reasoning, message.content):
        if piece:
            yield piece if isinstance(piece, str) else json.dumps(piece, ensure_ascii=False)
    if message.tool_calls:
        yield f"[{', '.join(map(_call, message.tool_calls))}]"


def _call(call: ToolCall) -> str:
    """As the template writes it."""
    arguments = call.function.arguments
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f'{{"name": {json.dumps(call.function.name)}, "arguments": {text or "{}"}}}'
