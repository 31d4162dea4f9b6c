"""Pairs by a model artifact, several at a time, through its chat template with thinking off."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from model.chat.template import encode
from model.inference.generation import FinishReason, Generator, Request
from model.inference.sampling import SamplingParams
from model.inference.stopping import stop_token_ids
from model.loading import load
from model.tokenizer import load_tokenizer
from stages.common.reporter import Reporter
from stages.common.stage import StopFlag
from stages.common.training.hardware import resolve_device
from stages.data.longqa.asking import Patience, interrupted, key_of, prompt_of
from stages.data.longqa.config import LongqaConfig
from stages.data.longqa.kept_pairs import KeptPairs
from stages.data.longqa.pairs import NoPair, Pair, Passage
from stages.data.longqa.replies import parse_reply


@dataclass
class _Asked:
    passage: Passage
    key: str
    outcome: Pair | NoPair | None = None


class ModelWriter:
    name = "model"

    def __init__(self, config: LongqaConfig, kept: KeptPairs, stop: StopFlag, reporter: Reporter) -> None:
        assert config.model is not None
        device = resolve_device(config.device)
        self.device = str(device)
        self._lm = load(config.model, device=device)
        self._tokenizer = load_tokenizer(config.model, self._lm.config.vocab_size)
        self._stop_ids = stop_token_ids(config.model, self._lm.config, self._tokenizer, chat=True)
        self._config = config
        self._kept = kept
        self._stop = stop
        self._reporter = reporter
        self._warned = False

    def write(self, passages: Iterable[Passage]) -> Iterator[Pair | NoPair]:
        generator = Generator(self._lm, self._tokenizer, max_rows=self._config.concurrency)
        patience = Patience(self._config.max_failed_share, where=str(self._config.model))
        asked: deque[_Asked] = deque()
        by_request: dict[int, _Asked] = {}
        source = iter(passages)
        more = True
        while more or asked:
            while (
                more
                and len(by_request) < self._config.concurrency
                and len(asked) < 4 * self._config.concurrency
            ):
                passage = next(source, None)
                if passage is None:
                    more = False
                    break
                item = _Asked(passage, key_of(passage))
                item.outcome = self._kept.get(item.key)
                if item.outcome is None:
                    by_request[generator.add(self._request(item))] = item
                else:
                    patience.count(item.outcome)
                asked.append(item)
            for update in generator.step() if generator.busy else ():
                if update.completion is not None:
                    item = by_request.pop(update.request)
                    item.outcome = parse_reply(
                        update.completion.text,
                        item.passage.text,
                        cut_off=update.completion.finish_reason is FinishReason.LENGTH,
                    )
                    if isinstance(item.outcome, Pair):
                        self._kept.add(item.key, item.outcome)
                    patience.count(item.outcome)
            if self._stop:
                raise interrupted(self._kept)
            while asked and (outcome := asked[0].outcome) is not None:
                asked.popleft()
                yield outcome
        patience.finish()

    def _request(self, item: _Asked) -> Request:
        messages = [{"role": "user", "content": prompt_of(item.passage)}]
        ids = encode(self._tokenizer, messages, thinking=False, add_generation_prompt=True).ids
        wanted, longest = len(ids) + self._config.reply_tokens, self._lm.config.max_position_embeddings
        if wanted > longest and not self._warned:
            self._warned = True
            self._reporter.warn(
                f"prompt and reply may have {wanted} tokens, the model's config says {longest}: pairs may become worse"
            )
        seed = self._config.seed ^ int(item.key[:12], 16)
        sampling = SamplingParams(self._config.temperature, seed=seed)
        return Request(ids, self._config.reply_tokens, sampling, self._stop_ids)
