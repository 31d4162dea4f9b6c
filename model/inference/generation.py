"""Batched generation: requests wait, are read, are decoded together, and leave one by one when they end.

    generator = Generator(lm, tokenizer)
    completions = generator.run([Request(prompt_ids, max_tokens=64, stop=("\\n\\n",))])

`add` and `step` are the same loop opened up: requests may join while others are being decoded. A prompt is read by
itself, in chunks; rows of a batch have different lengths and need no padding. Equal prompts that join together (samples
of one question) are read once.

Shapes: B rows being decoded, V vocabulary.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from model.errors import UsageError
from model.hybrid import HybridLM
from model.inference.diagnosis import not_finite_error
from model.inference.sampling import GREEDY, SamplingParams, sample
from model.inference.state import InferenceState
from model.inference.text import StopStrings, TextStream


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True)
class Request:
    """A prompt to continue. Ends at a stop id, at a stop string, or after `max_tokens` tokens.

    stop_after: stop strings count only behind this text, if it is not empty.
    """

    prompt_ids: Sequence[int]
    max_tokens: int
    sampling: SamplingParams = GREEDY
    stop_ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    stop_after: str = ""


@dataclass
class Completion:
    """What was generated for a request.

    token_ids and logprobs (nats, of the model before temperature and filters) include the token that ended it; `text`
    ends before a stop string and leaves special tokens out. `text` stays empty without a tokenizer.
    """

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Update:
    """One more token of a request: `request` is the number that `add` gave it, `text` what may now be shown.

    `completion` is the whole of it, with its last token.
    """

    request: int
    token_id: int
    text: str
    completion: Completion | None


class Generator:
    """Generates for any number of requests, at most `max_rows` of them at a time.

    `tokenizer` is a fast tokenizer of transformers; without one there is no text and there are no stop strings.
    `prefill_chunk`: a prompt is read this many tokens at a time, which bounds the memory for its activations.
    """

    def __init__(
        self, lm: HybridLM, tokenizer: Any = None, *, max_rows: int = 32, prefill_chunk: int = 2048
    ) -> None:
        self._lm = lm
        self._tokenizer = tokenizer
        self._max_rows = max_rows
        self._prefill_chunk = prefill_chunk
        self._added = 0
        self._waiting: deque[_Row] = deque()
        self._rows: list[_Row] = []
        self._state: InferenceState | None = None  # row b belongs to self._rows[b]

    def add(self, request: Request) -> int:
        """Queue a request and return its number. UsageError if it cannot be generated for."""
        vocab = self._lm.config.vocab_size
        if not request.prompt_ids:
            raise UsageError("the prompt has no tokens", remedy="give some text, or the begin-of-text token")
        if not 0 <= min(request.prompt_ids) <= max(request.prompt_ids) < vocab:
            raise UsageError(f"the prompt has token ids outside of 0 to {vocab - 1}")
        if request.max_tokens < 1:
            raise UsageError(f"max_tokens is {request.max_tokens}", remedy="ask for at least one token")
        if request.stop and self._tokenizer is None:
            raise UsageError("stop strings need a tokenizer", remedy="give one, or use stop ids")
        self._waiting.append(_Row(self._added, request, self._tokenizer))
        self._added += 1
        return self._added - 1

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

    def _admit(self) -> list[Update]:
        updates: list[Update] = []
        rows = list(self._rows)
        states = [self._state] if self._state is not None else []
        while self._waiting and len(rows) < self._max_rows:
            free = self._max_rows - len(rows)
            joining = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
            for _, same in groupby(joining, key=lambda row: tuple(row.request.prompt_ids)):
                row_group = list(same)
                logits_1V, state = self._read(row_group[0].request.prompt_ids)
                updates += self._take(row_group, logits_1V.expand(len(row_group), -1))
                going_on = [row for row in row_group if row.completion.finish_reason is None]
                if going_on:
                    rows += going_on
                    states.append(state if len(going_on) == 1 else state.select([0] * len(going_on)))
        if len(rows) > len(self._rows):
            self._rows, self._state = rows, InferenceState.join(states)
        return updates

    def _read(self, prompt_ids: Sequence[int]) -> tuple[Tensor, InferenceState]:
        """Logits [1, V] after the prompt, and the state there."""
        ids_1T = torch.tensor([list(prompt_ids)], device=self._lm.device)
        state = self._lm.new_state()
        for chunk_1T in ids_1T.split(self._prefill_chunk, dim=1):
            hidden_1TD = self._lm.hidden_states(chunk_1T, state=state)
        return self._lm.logits(hidden_1TD[:, -1]), state

    def _decode(self) -> list[Update]:
        assert self._state is not None
        last_B1 = torch.tensor([[row.completion.token_ids[-1]] for row in self._rows], device=self._lm.device)
        hidden_B1D = self._lm.hidden_states(last_B1, state=self._state)
        updates = self._take(self._rows, self._lm.logits(hidden_B1D[:, 0]))
        staying = [b for b, row in enumerate(self._rows) if row.completion.finish_reason is None]
        if len(staying) < len(self._rows):
            self._rows = [self._rows[b] for b in staying]
            self._state = self._state.select(staying) if staying else None
        return updates

    def _take(self, rows: "Sequence[_Row]", logits_BV: Tensor) -> list[Update]:
        """Choose each row's next token and hand it over."""
        sampled = sample(
            logits_BV,
            [row.request.sampling for row in rows],
            [len(row.completion.token_ids) for row in rows],
        )
        finite = sampled.finite_B.tolist()
        if not all(finite):
            row = rows[finite.index(False)]
            raise not_finite_error(self._lm, [*row.request.prompt_ids, *row.completion.token_ids])
        return [
            row.take(token_id, logprob)
            for row, token_id, logprob in zip(
                rows, sampled.token_B.tolist(), sampled.logprob_B.tolist(), strict=True
            )
        ]


class _Row:
    """A request on its way, and what it has become so far."""

    def __init__(self, number: int, request: Request, tokenizer: Any) -> None:
        self.number = number
        self.request = request
        self.completion = Completion()
        self._text = None if tokenizer is None else TextStream(tokenizer)
        self._stops = StopStrings(request.stop, request.stop_after)

    def take(self, token_id: int, logprob: float) -> Update:
        """Append a token and find out whether it is the last."""
        completion = self.completion
        completion.token_ids.append(token_id)
        completion.logprobs.append(logprob)
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
        return Update(self.number, token_id, text, completion if completion.finish_reason else None)
