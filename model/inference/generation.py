"""Batched generation: requests wait, are read, are decoded together, and leave one by one when they end.

    generator = Generator(lm, tokenizer)
    completions = generator.run([Request(prompt_ids, max_tokens=64, stop=("\\n\\n",))])

`add` and `step` are the same loop opened up: requests may join while others are being decoded, and `cancel` takes one out.
Rows of a batch have different lengths and need no padding. Equal prompts that join together (samples of one question) are
read once.

Shapes: B rows being decoded, P prompts being read, V vocabulary.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from operator import index
from typing import Any

import torch
from torch import Tensor

from model.errors import UsageError
from model.hybrid import HybridLM
from model.inference.diagnosis import not_finite_error
from model.inference.reading import Tokens, passes, read
from model.inference.sampling import GREEDY, LikelyTokens, SamplingParams, sample
from model.inference.slots import StateSlots
from model.inference.text import StopStrings, TextStream
from model.inference.thinking import ThinkingBudget, ThinkingCloser, ThinkingEnd, ThinkingWatch


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True)
class Request:
    """A prompt to continue. Ends at a stop id, at a stop string, or after `max_tokens` tokens.

    stop_after: stop strings count only behind this text, if it is not empty. prompt_logprobs: give those of the prompt's
    tokens, too. top_logprobs: so many of the likeliest tokens are told in the place of each generated token and, with
    prompt_logprobs, of each token of the prompt. thinking_budget: for a prompt that ends inside of the thinking; tokens put
    in to close it count as generated, and what ends a request ends it inside of the thinking as well.
    """

    prompt_ids: Sequence[int]
    max_tokens: int
    sampling: SamplingParams = GREEDY
    stop_ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    stop_after: str = ""
    prompt_logprobs: bool = False
    top_logprobs: int = 0
    thinking_budget: ThinkingBudget | None = None


@dataclass
class Completion:
    """What was generated for a request.

    token_ids and logprobs (nats, of the model before temperature and filters) include the token that ended it; `text`
    ends before a stop string and leaves special tokens out. `text` stays empty without a tokenizer.
    forced: for each token, whether the thinking budget put it in; its log-probability is the model's all the same.
    prompt_logprobs: of each token of the prompt behind those before it, None for the first; None if not asked for.
    top_logprobs, prompt_top_logprobs: in the place of each generated token, and of each token of the prompt where its
    log-probabilities are given, the model's likeliest tokens: as many as were asked for, none for the first of the prompt.
    thinking_end, thinking_tokens, answer_tokens: who closed the thinking, and the tokens before and behind the closing tag,
    without it, what was put in before it, and the token that ended all; None and 0 without a thinking budget.
    """

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    finish_reason: FinishReason | None = None
    forced: list[bool] = field(default_factory=list)
    prompt_logprobs: list[float | None] | None = None
    top_logprobs: list[LikelyTokens] = field(default_factory=list)
    prompt_top_logprobs: list[LikelyTokens] | None = None
    thinking_end: ThinkingEnd | None = None
    thinking_tokens: int = 0
    answer_tokens: int = 0


@dataclass(frozen=True)
class Update:
    """One more token of a request: `request` is the number that `add` gave it, `text` what may now be shown.

    `completion` is the whole of it, with its last token. prompt_logprobs, prompt_top_logprobs: with the first token, where
    they were asked for.
    """

    request: int
    token_id: int
    text: str
    completion: Completion | None
    logprob: float
    top_logprobs: LikelyTokens
    prompt_logprobs: list[float | None] | None
    prompt_top_logprobs: list[LikelyTokens] | None


class Generator:
    """Generates for any number of requests, at most `max_rows` of them at a time.

    `tokenizer` is a fast tokenizer of transformers; without one there is no text, no stop string and no thinking budget.
    `prefill_chunk`: prompts are read this many tokens at a time, which bounds the memory for activations.
    """

    def __init__(
        self, lm: HybridLM, tokenizer: Any = None, *, max_rows: int = 32, prefill_chunk: int = 2048
    ) -> None:
        for name, value in (("max_rows", max_rows), ("prefill_chunk", prefill_chunk)):
            if value < 1:
                raise UsageError(f"{name} is {value}", remedy="give 1 or more")
        self._lm = lm
        self._tokenizer = tokenizer
        self._max_rows = max_rows
        self._prefill_chunk = prefill_chunk
        self._closer: ThinkingCloser | None = None
        self._added = 0
        self._waiting: deque[_Row] = deque()
        self._rows: list[_Row] = []  # row b of the slots belongs to self._rows[b]
        self._slots = StateSlots(lm.new_state, max_rows)

    def add(self, request: Request) -> int:
        """Queue a request and return its number. UsageError if it cannot be generated for."""
        self._waiting.append(self._row(request))
        self._added += 1
        return self._added - 1

    def check(self, request: Request) -> None:
        """UsageError if it cannot be generated for."""
        self._row(request)

    def _row(self, request: Request) -> "_Row":
        vocab = self._lm.config.vocab_size
        try:
            request = replace(request, prompt_ids=tuple(map(index, request.prompt_ids)))
        except TypeError as error:
            raise UsageError(
                f"the prompt is no sequence of token ids ({error})", remedy="give whole numbers"
            ) from error
        if not request.prompt_ids:
            raise UsageError("the prompt has no tokens", remedy="give some text, or the begin-of-text token")
        if not 0 <= min(request.prompt_ids) <= max(request.prompt_ids) < vocab:
            raise UsageError(f"the prompt has token ids outside of 0 to {vocab - 1}")
        if request.max_tokens < 1:
            raise UsageError(f"max_tokens is {request.max_tokens}", remedy="ask for at least one token")
        if request.stop and self._tokenizer is None:
            raise UsageError("stop strings need a tokenizer", remedy="give one, or use stop ids")
        if request.top_logprobs < 0:
            raise UsageError(f"top_logprobs is {request.top_logprobs}", remedy="give 0 or more")
        return _Row(self._added, request, self._tokenizer, self._watch(request))

    @torch.inference_mode()
    def cancel(self, request: int) -> None:
        """Forget a request: nothing more comes of it. One that has ended is left alone."""
        self._waiting = deque(row for row in self._waiting if row.number != request)
        self._leave([b for b, row in enumerate(self._rows) if row.number == request])

    @property
    def free_rows(self) -> int:
        """How many more requests would be decoded at once if they were added."""
        return max(0, self._max_rows - len(self._rows) - len(self._waiting))

    @property
    def busy(self) -> bool:
        """Some request has not ended."""
        return bool(self._waiting or self._rows)

    @torch.inference_mode()
    def step(self) -> list[Update]:
        """Let waiting requests join, each with its first token; then one more token for every row."""
        updates = self._admit()
        if self._rows:
            updates += self._decode()
        return updates

    def run(self, requests: Iterable[Request]) -> list[Completion]:
        """The completions of all requests, in their order."""
        numbers = [self.add(request) for request in requests]
        completions: dict[int, Completion] = {}
        while self.busy:
            for update in self.step():
                if update.completion is not None:
                    completions[update.request] = update.completion
        return [completions[number] for number in numbers]

    def _watch(self, request: Request) -> ThinkingWatch | None:
        if request.thinking_budget is None:
            return None
        if self._tokenizer is None:
            raise UsageError("a thinking budget needs a tokenizer", remedy="give one, or no budget")
        self._closer = self._closer or ThinkingCloser(self._tokenizer)
        return ThinkingWatch(request.thinking_budget, self._closer, request.prompt_ids)

    def _admit(self) -> list[Update]:
        updates: list[Update] = []
        while self._waiting and len(self._rows) < self._max_rows:
            free = self._max_rows - len(self._rows)
            joining: dict[Tokens, list[_Row]] = {}
            for _ in range(min(free, len(self._waiting))):
                row = self._waiting.popleft()
                joining.setdefault(row.prompt, []).append(row)
            for prompts in passes(list(joining), self._prefill_chunk):
                updates += self._join(prompts, joining)
        return updates

    def _join(self, prompts: Sequence[Tokens], joining: "Mapping[Tokens, Sequence[_Row]]") -> list[Update]:
        """Read prompts, take the first token of each row, and keep a copy of the state for those that go on."""
        asked = [row for prompt in prompts for row in joining[prompt] if row.request.prompt_logprobs]
        scored: dict[Tokens, int] = {}
        for row in asked:
            scored[row.prompt] = max(row.request.top_logprobs, scored.get(row.prompt, 0))
        reading = read(self._lm, prompts, chunk=self._prefill_chunk, scored=scored)
        for row in asked:
            count = row.request.top_logprobs
            row.completion.prompt_logprobs = [None, *reading.logprobs[row.prompt]]
            row.completion.prompt_top_logprobs = [(), *(each[:count] for each in reading.likely[row.prompt])]
        rows = [(p, row) for p, prompt in enumerate(prompts) for row in joining[prompt]]
        logits_PV = self._lm.logits(reading.last_PD)
        updates = self._take([row for _, row in rows], logits_PV[[p for p, _ in rows]])
        for p, prompt in enumerate(prompts):
            going_on = [row for row in joining[prompt] if row.completion.finish_reason is None]
            if going_on:
                self._slots.take(reading.state, p, copies=len(going_on))
                self._rows += going_on
        return updates

    def _decode(self) -> list[Update]:
        last_B1 = torch.tensor([[row.completion.token_ids[-1]] for row in self._rows], device=self._lm.device)
        hidden_B1D = self._lm.hidden_states(last_B1, state=self._slots.rows(1))
        updates = self._take(self._rows, self._lm.logits(hidden_B1D[:, 0]))
        self._leave([b for b, row in enumerate(self._rows) if row.completion.finish_reason is not None])
        return updates

    def _leave(self, rows: Sequence[int]) -> None:
        for b in reversed(rows):
            self._slots.give_back(b)
            self._rows[b] = self._rows[-1]
            self._rows.pop()

    def _take(self, rows: "Sequence[_Row]", logits_BV: Tensor) -> list[Update]:
        """Choose each row's next token and hand it over."""
        sampled = sample(
            logits_BV,
            [row.request.sampling for row in rows],
            [len(row.completion.token_ids) for row in rows],
            [row.forced for row in rows],
            [row.request.top_logprobs for row in rows],
        )
        finite = sampled.finite_B.tolist()
        if not all(finite):
            row = rows[finite.index(False)]
            raise not_finite_error(self._lm, [*row.request.prompt_ids, *row.completion.token_ids])
        return [
            row.take(token_id, logprob, likely)
            for row, token_id, logprob, likely in zip(
                rows, sampled.token_B.tolist(), sampled.logprob_B.tolist(), sampled.likely, strict=True
            )
        ]


class _Row:
    """A request on its way, and what it has become so far."""

    def __init__(self, number: int, request: Request, tokenizer: Any, thinking: ThinkingWatch | None) -> None:
        self.number = number
        self.request = request
        self.prompt = tuple(request.prompt_ids)
        self.completion = Completion()
        self._text = None if tokenizer is None else TextStream(tokenizer)
        self._stops = StopStrings(request.stop, request.stop_after)
        self._thinking = thinking

    @property
    def forced(self) -> int | None:
        """The token that the thinking budget wants next."""
        return None if self._thinking is None else self._thinking.forced

    def take(self, token_id: int, logprob: float, likely: LikelyTokens) -> Update:
        """Append a token and find out whether it is the last."""
        completion = self.completion
        completion.forced.append(self.forced is not None)
        completion.token_ids.append(token_id)
        completion.logprobs.append(logprob)
        completion.top_logprobs.append(likely)
        if self._thinking is not None:
            self._thinking.push(token_id, stop=token_id in self.request.stop_ids)
        text = ""
        if token_id in self.request.stop_ids:
            completion.finish_reason = FinishReason.STOP
        elif self._text is not None:
            text = self._stops.push(self._text.push(token_id))
        if self._stops.stopped:
            completion.finish_reason = FinishReason.STOP
        elif completion.finish_reason is None and len(completion.token_ids) >= self.request.max_tokens:
            completion.finish_reason = FinishReason.LENGTH
        if completion.finish_reason is not None and self._text is not None:
            text += self._stops.push(self._text.finish()) + self._stops.finish()
        completion.text += text
        if self._thinking is not None:
            completion.thinking_end = self._thinking.end
            completion.thinking_tokens = self._thinking.thinking_tokens
            completion.answer_tokens = self._thinking.answer_tokens
        first = len(completion.token_ids) == 1
        return Update(
            self.number,
            token_id,
            text,
            completion if completion.finish_reason else None,
            logprob,
            likely,
            completion.prompt_logprobs if first else None,
            completion.prompt_top_logprobs if first else None,
        )
