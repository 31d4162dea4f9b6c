"""The steps from a sample to what is packed, and what is to be told of them."""

from dataclasses import dataclass, field

from evals.chat_lines import ChatSample
from model.chat.messages import tool_name
from stages.common.data.chat.decontamination import EvalWords
from stages.common.data.chat.encoding import EncodedSample, episodes_to_train
from stages.common.data.chat.settings import ChatDataSettings
from stages.common.data.chat.template_check import check_template
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.chat.transforms import Decontaminate, StripTraces, TruncateTraces, chance

_NAMED = 5


@dataclass
class Places:
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
    """What is done with samples before they are tokens, and with tokens before they are rows."""

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
        self._longest = 0
        self._too_long = Places()
        self._unlisted_calls = Places()
        self._empty_thinking = Places()

    def versions(self, sample: ChatSample) -> tuple[list[ChatSample], bool]:
        """What becomes of a sample: nothing, itself or its cut form, and perhaps a copy; and whether it is held out.

        ArtifactError at the first chat if its template is broken.
        """
        if self._decontaminate is not None and not self._decontaminate.keeps(sample):
            return [], False
        if not (sample.is_text or self._template_checked):
            check_template(self._tokenizer)
            self._template_checked = True
        self._note_oddities(sample)
        if chance(self._settings.data_seed, "validation", sample) < self._settings.validation_fraction:
            return [sample], True
        return [self._truncate(version) for version in self._strip(sample)], False

    def fits(self, encoded: EncodedSample) -> bool:
        """Whether it fits a row; one that does not is left out and told of."""
        if len(encoded.ids) <= self._settings.seq_len:
            return True
        self._too_long.add(encoded.place)
        self._longest = max(self._longest, len(encoded.ids))
        return False

    def describe(self) -> list[str]:
        """What each step did."""
        lines = self._decontaminate.describe() if self._decontaminate else []
        return [*lines, *self._strip.describe(), *self._truncate.describe()]

    def warnings(self) -> list[str]:
        """What should not be missed."""
        told = {
            f"are longer than {self._settings.seq_len} tokens and were left out (the longest has "
            f"{self._longest})": self._too_long,
            "call a tool that their tools do not list": self._unlisted_calls,
            "have thinking on and no reasoning, so they teach the model to close its thinking at once": (
                self._empty_thinking
            ),
        }
        return [f"{places.count} samples {what}: {places}" for what, places in told.items() if places.count]

    def _note_oddities(self, sample: ChatSample) -> None:
        listed = {tool_name(tool) for tool in sample.tools or ()}
        called = {call.function.name for message in sample.conversation for call in message.tool_calls or ()}
        begins = [message.role for message in sample.conversation[:1]]
        described = not listed and begins == ["system"]  # its text may tell of tools
        if called - listed and not described:
            self._unlisted_calls.add(sample.place)
        for episode in [] if sample.is_text else episodes_to_train(sample, self._settings.episodes):
            if episode.thinking.on and not any(episode.messages[i].trace for i in episode.trained):
                self._empty_thinking.add(episode.place)
