"""Seeded steps between the lines of a chat jsonl and their tokens (PAPER.md 4.1 and 4.2).

What becomes of a sample is decided by a hash of the seed and of what the sample says, never by what was read before it: a
sample keeps its fate when others are added, left out or put in another order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from evals.chat_lines import ChatSample
from model import seeds
from model.chat.messages import Message
from stages.common.data.chat.decontamination import EvalWords, Overlap
from stages.common.data.chat.encoding import EncodedSample, Episodes, episodes_to_train
from stages.common.data.text_tokenizer import TextTokenizer


def chance(seed: int, purpose: str, sample: ChatSample) -> float:
    """A number from 0 to below 1 that depends on these alone."""
    return seeds.chance(f"{seed}|{purpose}|{sample.content_key}")


def reasoning_turns(sample: ChatSample, episodes: Episodes) -> list[int]:
    """Positions of the trained turns whose reasoning is shown to the model."""
    return [
        index
        for episode in episodes_to_train(sample, episodes)
        if episode.thinking.on
        for index in episode.trained
        if episode.messages[index].trace
    ]


@dataclass
class Decontaminate:
    """Leaves out samples that share a run of words with evaluation data."""

    eval_words: EvalWords
    left_out: int = 0
    example: tuple[str, Overlap] | None = None

    def keeps(self, sample: ChatSample) -> bool:
        overlap = self.eval_words.find(sample)
        if overlap is not None:
            self.left_out += 1
            self.example = self.example or (sample.place, overlap)
        return overlap is None

    def describe(self) -> list[str]:
        """Sentences for the log."""
        width = self.eval_words.width
        lines = [f"decontaminate: {self.left_out} samples share {width} words in a row with evaluation data"]
        if self.example is not None:
            place, overlap = self.example
            lines.append(f"for example {place} and {overlap.place}: {overlap.words!r}")
        if self.eval_words.too_short:
            lines.append(
                f"{self.eval_words.too_short} evaluation lines have no {width} words in a row and were not compared"
            )
        return lines


@dataclass
class StripTraces:
    """Repeats a share of the samples with reasoning without it, thinking off, as the report does with a tenth."""

    share: float
    seed: int
    episodes: Episodes
    reasoning: int = 0
    repeated: int = 0

    def __call__(self, sample: ChatSample) -> Iterator[ChatSample]:
        """The sample, and its copy without reasoning where it gets one."""
        yield sample
        if self.share and reasoning_turns(sample, self.episodes):
            self.reasoning += 1
            if chance(self.seed, "strip traces", sample) < self.share:
                self.repeated += 1
                yield without_traces(sample)

    def describe(self) -> list[str]:
        if not self.share:
            return []
        return [
            f"strip_traces: {self.repeated} of {self.reasoning} samples with reasoning repeated without it"
        ]


def without_traces(sample: ChatSample) -> ChatSample:
    """The sample with thinking off and no reasoning."""
    return _with_messages(
        sample,
        [message.with_trace("") if message.trace else message for message in sample.conversation],
        "without its reasoning",
        thinking=False,
    )


@dataclass
class TruncateTraces:
    """Cuts the reasoning of a share of the samples abruptly, the answer kept, to train for a thinking budget.

    Each turn's reasoning is cut to a number of tokens drawn from `shortest` to `longest`, both included. Reasoning that is
    no longer than its number stays as it is.
    """

    share: float
    shortest: int
    longest: int
    seed: int
    episodes: Episodes
    tokenizer: TextTokenizer
    reasoning: int = 0
    drawn: int = 0
    cut: int = 0

    def __call__(self, sample: ChatSample) -> ChatSample:
        turns = reasoning_turns(sample, self.episodes) if self.share else []
        if not turns:
            return sample
        self.reasoning += 1
        if chance(self.seed, "truncate traces", sample) >= self.share:
            return sample
        self.drawn += 1
        messages = list(sample.conversation)
        for index in turns:
            span = self.longest - self.shortest + 1
            budget = self.shortest + int(chance(self.seed, f"budget of {index}", sample) * span)
            trace = messages[index].trace
            shorter = first_tokens(self.tokenizer, trace, budget)
            if len(shorter) < len(trace):
                messages[index] = messages[index].with_trace(shorter)
        if messages == sample.conversation:
            return sample
        self.cut += 1
        return _with_messages(sample, messages, "reasoning cut", thinking=sample.thinking)

    def describe(self) -> list[str]:
        if not self.share:
            return []
        return [
            f"truncate_traces: {self.drawn} of {self.reasoning} samples with reasoning drawn; {self.cut} cut to "
            f"{self.shortest}-{self.longest} tokens, {self.drawn - self.cut} no longer than that and left whole"
        ]


def first_tokens(tokenizer: TextTokenizer, text: str, count: int) -> str:
    """The text of its first `count` tokens, to the end of a character, without white space at the end."""
    offsets = tokenizer.backend.encode(text, add_special_tokens=False).offsets
    return text if len(offsets) <= count else text[: offsets[count - 1][1]].rstrip()


def _with_messages(
    sample: ChatSample, messages: list[Message], what: str, thinking: bool | None
) -> ChatSample:
    if sample.messages is not None:
        return sample.changed(what, messages=messages, thinking=thinking)
    split = sample.first_trained
    return sample.changed(what, prompt=messages[:split], completion=messages[split:], thinking=thinking)


@dataclass
class Concatenate:
    """Joins samples, in their order, into one document of at most `limit` tokens.

    Each keeps its own mask. The samples of one document attend to each other, as in the report's stage 1; packing keeps
    the documents of a row apart. A sample longer than the limit stays alone.
    """

    limit: int
    samples: int = 0
    documents: int = 0
    _waiting: list[EncodedSample] = field(default_factory=list)

    def __call__(self, sample: EncodedSample) -> Iterator[EncodedSample]:
        """The document that is full now, if there is one."""
        if self._waiting and sum(len(item.ids) for item in self._waiting) + len(sample.ids) > self.limit:
            yield from self.flush()
        self.samples += 1
        self._waiting.append(sample)

    def flush(self) -> Iterator[EncodedSample]:
        """The document of what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.documents += 1
            others = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
            yield EncodedSample(
                np.concatenate([item.ids for item in waiting]),
                np.concatenate([item.mask for item in waiting]),
                waiting[0].place + others,
            )

    def describe(self) -> list[str]:
        return [
            f"concatenate: {self.samples} samples in {self.documents} documents of up to {self.limit} tokens"
        ]
