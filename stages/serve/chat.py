"""Chat completions: from a request to a prompt, and from updates to a response or to its chunks.

The message is what the chunks add up to: both are made of the same deltas.
"""

import json
import uuid
from typing import Any

from model.chat import parsers
from model.chat.events import ContentDelta, Defect, Event, Malformed, ReasoningDelta
from model.chat.special_tokens import TOOL_CALL_CLOSE, TOOL_CALL_OPEN
from model.chat.template import encode, ends_in_thinking
from model.chat.tool_calls import ToolCall
from model.inference.generation import Request, Update
from model.inference.thinking import ThinkingBudget
from stages.serve.protocol.chat import ChatRequest
from stages.serve.served import STOP_AFTER, Chunk, Envelope, Served, usage


class ChatCall:
    """`POST /v1/chat/completions`: `n` answers."""

    def __init__(self, served: Served, body: ChatRequest) -> None:
        served.check(body)
        self._body = body
        tools = [] if body.tool_choice == "none" else [tool.for_template() for tool in body.tools]
        forced = body.forced_function
        thinking = False if forced is not None else body.chat_template_kwargs.enable_thinking
        messages = [message.for_template() for message in body.messages]
        prompt = encode(
            served.tokenizer, messages, tools=tools, thinking=thinking, add_generation_prompt=True
        ).ids
        opened = ends_in_thinking(served.tokenizer.decode(prompt[-64:], skip_special_tokens=False))
        opening = "" if forced is None else call_opening(forced)
        prompt = prompt + served.tokenizer(opening, add_special_tokens=False)["input_ids"]
        max_tokens = served.answer_tokens(len(prompt), body.wanted_tokens)
        budget = served.budget(body)
        if budget is None and opened:
            budget = ThinkingBudget(max_tokens)  # never used up; it counts the tokens of the thinking
        self._prompt_tokens = len(prompt)
        self.requests: list[Request] = served.requests(
            body,
            prompt,
            max_tokens,
            stop_ids=served.chat_stop_ids,
            stop_after=STOP_AFTER if opened else "",
            top_logprobs=body.top_logprobs,
            thinking_budget=budget,
        )
        most_calls = 1 if body.forced_function or not body.parallel_tool_calls else None
        self._choices = [
            _Choice(served, body, number, opened, opening, bool(tools), most_calls)
            for number in range(body.n)
        ]
        self._envelope = Envelope("chatcmpl", "chat.completion" + ".chunk" * body.stream, served.name)

    def opening(self) -> list[Chunk]:
        return [
            self._envelope.around([choice.chunk({"role": "assistant", "content": ""})])
            for choice in self._choices
        ]

    def take(self, number: int, update: Update) -> list[Chunk]:
        choice = self._choices[number]
        chunks = [choice.chunk(delta) for delta in choice.take(update)]
        if choice.finish_reason is not None:
            chunks.append(choice.chunk({}, choice.finish_reason))
        return [self._envelope.around([chunk]) for chunk in chunks]

    def closing(self) -> list[Chunk]:
        return (
            [self._envelope.around([], usage=self._usage())]
            if self._body.stream_options.include_usage
            else []
        )

    def response(self) -> Chunk:
        return self._envelope.around([choice.shown() for choice in self._choices], usage=self._usage())

    def _usage(self) -> Chunk:
        reasoning = sum(choice.reasoning_tokens for choice in self._choices)
        return usage(self._prompt_tokens, (choice.tokens for choice in self._choices), reasoning)


def call_opening(function: str) -> str:
    """How an answer begins that calls the function, or any ("") one. It ends where a token ends, whatever comes."""
    if not function:
        return f'{TOOL_CALL_OPEN}[{{"name": "'
    return f'{TOOL_CALL_OPEN}[{{"name": {json.dumps(function, ensure_ascii=False)}, "arguments":'


class _Choice:
    """One answer as it grows. most_calls: what comes behind so many calls is left out."""

    def __init__(
        self,
        served: Served,
        body: ChatRequest,
        index: int,
        opened: bool,
        opening: str,
        tools: bool,
        most_calls: int | None,
    ) -> None:
        self._index = index
        self._texts = served.texts
        self._most_calls = most_calls
        self._parser, _ = parsers.feed(parsers.start(thinking=opened, tools=tools), opening)
        self._message: dict[str, str] = {}
        self._calls: list[Chunk] = []
        self._entries: list[Chunk] | None = [] if body.logprobs else None
        self._sent_entries = 0
        self.tokens = 0
        self.reasoning_tokens = 0
        self.finish_reason: str | None = None

    def take(self, update: Update) -> list[Chunk]:
        """The deltas of one more token."""
        self.tokens += 1
        if self._entries is not None:
            entry = self._texts.chat_entry(update.token_id, update.logprob, update.top_logprobs)
            self._entries.append(entry)
        self._parser, events = parsers.feed(self._parser, update.text)
        if update.completion is not None:
            self._parser, last = parsers.finish(self._parser)
            events += last
        deltas = [delta for event in events if (delta := self._delta(event))]
        if update.completion is not None:
            self.reasoning_tokens = update.completion.thinking_tokens
            reason = str(update.completion.finish_reason)
            self.finish_reason = "tool_calls" if self._calls and reason == "stop" else reason
        return deltas

    def chunk(self, delta: Chunk, finish_reason: str | None = None) -> Chunk:
        logprobs = None
        if self._entries is not None:
            logprobs = {"content": self._entries[self._sent_entries :], "refusal": None}
            self._sent_entries = len(self._entries)
        return {"index": self._index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}

    def shown(self) -> Chunk:
        content = self._message.get("content")
        message: dict[str, Any] = {"role": "assistant", "content": content or (None if self._calls else "")}
        if "reasoning_content" in self._message:
            message["reasoning_content"] = self._message["reasoning_content"]
        if self._calls:
            message["tool_calls"] = self._calls
        return {
            "index": self._index,
            "message": message,
            "logprobs": None if self._entries is None else {"content": self._entries, "refusal": None},
            "finish_reason": self.finish_reason,
        }

    def _delta(self, event: Event) -> Chunk | None:
        match event:
            case ReasoningDelta():
                return self._say("reasoning_content", event.text)
            case ContentDelta():
                return self._say("content", event.text)
            case ToolCall():
                return self._call(event)
            case Malformed(Defect.INVALID_TOOL_CALL):
                return self._say("content", TOOL_CALL_OPEN + event.raw + TOOL_CALL_CLOSE)
            case Malformed(Defect.UNCLOSED_TOOL_CALL):
                return self._say("content", TOOL_CALL_OPEN + event.raw)
        return None

    def _say(self, field: str, text: str) -> Chunk:
        self._message[field] = self._message.get(field, "") + text
        return {field: text}

    def _call(self, call: ToolCall) -> Chunk | None:
        if self._most_calls is not None and len(self._calls) >= self._most_calls:
            return None
        function = {"name": call.name, "arguments": call.arguments}
        made: Chunk = {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}
        self._calls.append(made)
        return {"tool_calls": [{"index": len(self._calls) - 1, **made}]}
