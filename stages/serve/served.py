"""What is served and within which limits, and how a request of the API becomes requests of the engine."""

import secrets
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from evals.encoding import RequestEncoder
from model.chat.special_tokens import THINK_CLOSE
from model.inference.generation import Request, Update
from model.inference.sampling import SamplingParams
from model.inference.thinking import ThinkingBudget
from stages.serve.errors import ApiError
from stages.serve.protocol.base import GenerationRequest
from stages.serve.tokens import TokenTexts

Chunk = dict[str, Any]


@dataclass(frozen=True)
class Served:
    """One model. max_length: tokens of prompt and answer together; max_tokens: of an answer, None for no limit of its own;
    max_choices: texts of one call."""

    name: str
    tokenizer: Any
    text_stop_ids: frozenset[int]
    chat_stop_ids: frozenset[int]
    max_length: int
    max_tokens: int | None
    max_choices: int
    texts: TokenTexts
    encoder: RequestEncoder

    def check(self, body: GenerationRequest, prompts: int = 1) -> None:
        """ApiError for another model, or for more texts than the server takes."""
        if body.model not in (None, self.name):
            raise ApiError(
                404,
                f"the model {body.model!r} is not served here; {self.name!r} is",
                param="model",
                code="model_not_found",
            )
        if body.n * prompts > self.max_choices:
            raise ApiError(
                400,
                f"{body.n * prompts} texts are asked for, {self.max_choices} at a time is the most",
                param="n" if body.n > 1 else "prompt",
            )

    def answer_tokens(self, prompt_tokens: int, wanted: int | None) -> int:
        """How long the answer may become. ApiError if it and the prompt are too long together."""
        room = self.max_length - prompt_tokens
        if self.max_tokens is not None and wanted is not None and wanted > self.max_tokens:
            raise ApiError(400, f"max_tokens is {wanted}, {self.max_tokens} is the most", param="max_tokens")
        if room < (wanted or 1):
            asked = "" if wanted is None else f" and {wanted} of an answer"
            raise ApiError(
                400,
                f"the model reads and writes {self.max_length} tokens, and the prompt has {prompt_tokens}{asked}",
                param="max_tokens" if room > 0 else None,
                code="context_length_exceeded",
            )
        most = room if self.max_tokens is None else min(room, self.max_tokens)
        return most if wanted is None else wanted

    def requests(
        self,
        body: GenerationRequest,
        prompt: Sequence[int],
        max_tokens: int,
        *,
        stop_ids: frozenset[int],
        **more: Any,
    ) -> list[Request]:
        """One for each of `n` texts, their seeds one apart. `more`: further fields of the engine's request."""
        special = set(self.tokenizer.all_special_tokens)
        named = self.tokenizer.convert_tokens_to_ids([text for text in body.stop if text in special])
        seed = secrets.randbits(48) if body.seed is None else body.seed
        return [
            Request(
                prompt,
                max_tokens,
                SamplingParams(body.temperature, body.top_p, max(body.top_k, 0), seed + number),
                # A special token is never part of a text, so a stop string that is one stops by its id.
                frozenset() if body.ignore_eos else stop_ids | set(named),
                tuple(text for text in body.stop if text not in special),
                **more,
            )
            for number in range(body.n)
        ]

    def budget(self, body: GenerationRequest) -> ThinkingBudget | None:
        if body.thinking_budget is None:
            return None
        if body.thinking_grace is None:
            return ThinkingBudget(body.thinking_budget)
        return ThinkingBudget(body.thinking_budget, body.thinking_grace)


STOP_AFTER = THINK_CLOSE
"""Where a chat's stop strings begin to count: a text that ends an answer does not end the thinking."""


class Call(Protocol):
    """One call of the API on its way. `take` is told every update and gives the chunks to stream; `response` is the whole
    answer, once all have ended."""

    requests: list[Request]

    def opening(self) -> list[Chunk]: ...

    def take(self, number: int, update: Update) -> list[Chunk]: ...

    def closing(self) -> list[Chunk]: ...

    def response(self) -> Chunk: ...


class Envelope:
    """What is the same in all chunks of an answer."""

    def __init__(self, prefix: str, kind: str, model: str) -> None:
        self._fields = {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": model,
        }

    def around(self, choices: Sequence[Chunk], **more: Any) -> Chunk:
        return {**self._fields, "choices": list(choices), **more}


def usage(prompt_tokens: int, completion_tokens: Iterable[int], reasoning_tokens: int | None = None) -> Chunk:
    """A prompt counts once, however many texts are made of it."""
    generated = sum(completion_tokens)
    counted: Chunk = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": generated,
        "total_tokens": prompt_tokens + generated,
    }
    if reasoning_tokens is not None:
        counted["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
    return counted
