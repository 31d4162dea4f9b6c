"""What happens to a sample before it is packed, and what is to be told of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from stages.common.data.chat.decontamination import EvalWords
from stages.common.data.chat.encoding import EncodedSample, encode_sample, episodes_to_train
from stages.common.data.chat.format import ChatSample
from stages.common.data.chat.messages import tool_name
from stages.common.data.chat.settings import ChatDataSettings
from stages.common.data.chat.template_check import check_template
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.chat.transforms import Decontaminate, StripTraces, TruncateTraces, chance

_NAMED = 5


@dataclass
class _Places:
    """How many samples something is said of, and where the first of them are."""

    count: int = 0
    _first: list[str] = field(default_factory=list)

    def add(self, place: str) -> None:
        self.count += 1
        if len(self._first) < _NAMED:
            self._first.append(place)

    def __str__(self) -> str:
        more = f" and {self.count - _NAMED} more" if self.count > _NAMED else ""
        return ", ".join(self._first) + more


class Steps:
    """Called with each sample in turn: leave out, hold out, repeat, cut, encode, check the length."""

    def __init__(self, settings: ChatDataSettings, tokenizer: ChatTokenizer) -> None:
        self._settings = settings
        self._tokenizer = tokenizer
        self._template_checked = False
        self._decontaminate = (
            Decontaminate(EvalWords(settings.decontaminate, settings.decontaminate_words))
            if settings.decontaminate
            else None
        )
        self._strip = StripTraces(settings.strip_traces, settings.data_seed, settings.episodes)
        self._truncate = TruncateTraces(
            settings.truncate_traces,
            settings.truncate_from,
            settings.truncate_to,
            settings.data_seed,
            settings.episodes,
            tokenizer.text,
        )
        self.read = 0
        self.held_out = 0
        self.longest = 0
        self.too_long = _Places()
        self.unlisted_calls = _Places()
        self.empty_thinking = _Places()
        self.joined: list[str] = []

    def __call__(self, sample: ChatSample) -> Iterator[tuple[EncodedSample, bool]]:
        """The sample's documents that fit a row, and whether they are held out."""
        self.read += 1
        if self._decontaminate is not None and not self._decontaminate.keeps(sample):
            return
        if not (sample.is_text or self._template_checked):
            check_template(self._tokenizer)
            self._template_checked = True
        self._note_oddities(sample)
        held_out = chance(self._settings.data_seed, "validation", sample) < self._settings.validation_fraction
        self.held_out += held_out
        for version in (sample,) if held_out else map(self._truncate, self._strip(sample)):
            for encoded in encode_sample(self._tokenizer, version, self._settings.episodes):
                if len(encoded.ids) > self._settings.seq_len:
                    self.too_long.add(encoded.place)
                    self.longest = max(self.longest, len(encoded.ids))
                else:
                    yield encoded, held_out

    def describe(self) -> list[str]:
        """What each step did."""
        lines = self._decontaminate.describe() if self._decontaminate else []
        return [*lines, *self._strip.describe(), *self._truncate.describe(), *self.joined]

    def warnings(self) -> list[str]:
        """What should not be missed."""
        told = {
            f"are longer than {self._settings.seq_len} tokens and were left out (the longest has "
            f"{self.longest})": self.too_long,
            "call a tool that their tools do not list": self.unlisted_calls,
            "have thinking on and no reasoning, so they teach the model to close its thinking at once": (
                self.empty_thinking
            ),
        }
        return [f"{places.count} samples {what}: {places}" for what, places in told.items() if places.count]

    def _note_oddities(self, sample: ChatSample) -> None:
        listed = {tool_name(tool) for tool in sample.tools or ()}
        called = {call.function.name for message in sample.conversation for call in message.tool_calls or ()}
        if called - listed:
            self.unlisted_calls.add(sample.place)
        for episode in [] if sample.is_text else episodes_to_train(sample, self._settings.episodes):
            if episode.shows_reasoning and not any(episode.messages[i].trace for i in episode.trained):
                self.empty_thinking.add(episode.place)
