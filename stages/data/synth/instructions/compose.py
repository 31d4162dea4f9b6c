"""Builds an answer that meets given demands, sentence by sentence."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

from stages.data.synth.dice import Dice
from stages.data.synth.instructions.demand import Kwargs, capitals_in, words_in
from stages.data.synth.instructions.languages import SENTENCES
from stages.data.synth.instructions.topics import (
    FIRST_WORD_SENTENCE,
    KEYWORD_SENTENCES,
    MORE,
    PLACEHOLDER_SENTENCES,
    TOPICS,
)

Told = Mapping[str, Kwargs]
"""Demands by name, with their kwargs."""


def compose(request: str, opening: str, topic: str, told: Told, dice: Dice) -> str:
    """An answer to `request` about `topic` that begins with `opening` and meets all of `told`."""
    if "choice" in told:
        return f"My answer is {dice.choice(('yes', 'no', 'maybe'))}."
    if "language" in told:
        sentences = list(SENTENCES[topic][told["language"]["language"]])
    else:
        sentences = _Draft(opening, topic, told, dice).sentences()
    text = _arranged(sentences, topic, told)
    if "title" in told:
        text = f"<<All about {topic}>>\n\n{text}"
    if "postscript" in told:
        marker = told["postscript"]["postscript_marker"]
        text += f"\n\n{marker} I will write more about it soon."
    if "end_phrase" in told:
        separator = "\n\n" if "\n" in text else " "
        text += separator + told["end_phrase"]["end_phrase"]
    if "repeat" in told:
        text = f"{request}\n\n{text}"
    if "upper" in told:
        text = text.upper()
    if "lower" in told:
        text = text.lower()
    return f'"{text}"' if "quotation" in told else text


class _Draft:
    """The sentences of an answer: those that demands need, and as many others as wanted."""

    def __init__(self, opening: str, topic: str, told: Told, dice: Dice) -> None:
        self.opening = opening
        self.topic = topic
        self.told = told
        self.dice = dice

    def sentences(self) -> list[str]:
        needed, supply = self._needed(), self._supply()
        body = [next(supply)]
        others = [next(supply) for _ in range(self._fewest() - len(needed) - 1)]
        body += self.dice.shuffled([*needed, *others]) if needed else others
        while self._too_short(body):
            body.append(next(supply))
        while len(body) < 4 and self.dice.chance(0.5):
            longer = [*body, next(supply)]
            if self._too_long(longer):
                break
            body = longer
        return self._marked(body)

    def _supply(self) -> Iterator[str]:
        """Sentences that no demand forbids: the opening, the topic's own, then any."""
        own, more = self.dice.shuffled(TOPICS[self.topic]), self.dice.shuffled(MORE)
        for text in (self.opening, *own, *(item.format(topic=self.topic) for item in more)):
            if self._allowed(text):
                yield text

    def _allowed(self, sentence: str) -> bool:
        if "forbidden" in self.told:
            found = set(re.findall(r"\w+", sentence.lower()))
            if found & set(self.told["forbidden"]["forbidden_words"]):
                return False
        if "capitals" in self.told and self.told["capitals"]["capital_relation"] == "less than":
            return not capitals_in(sentence)
        if "letter" in self.told and self.told["letter"]["let_relation"] == "less than":
            return self.told["letter"]["letter"] not in sentence.lower()
        return True

    def _needed(self) -> list[str]:
        words: list[str] = list(self.told.get("existence", {}).get("keywords", ()))
        if "frequency" in self.told:
            told = self.told["frequency"]
            words += [told["keyword"]] * (told["frequency"] - (told["relation"] == "less than"))
        templates = self.dice.shuffled(KEYWORD_SENTENCES)
        needed = [template.format(word=word) for word, template in zip(words, templates, strict=False)]
        if "placeholders" in self.told:
            needed += self.dice.sample(PLACEHOLDER_SENTENCES, self.told["placeholders"]["num_placeholders"])
        return needed

    def _fewest(self) -> int:
        """How many sentences there have to be, with those that are needed."""
        told = self.told
        counts = [1]
        for name, key in (("paragraphs", "num_paragraphs"), ("first_word", "num_paragraphs")):
            counts += [told[name][key]] if name in told else []
        counts += [told["sections"]["num_sections"]] if "sections" in told else []
        counts += [told["bullets"]["num_bullets"]] if "bullets" in told else []
        counts += [told["highlights"]["num_highlights"]] if "highlights" in told else []
        counts += [2] if "two_responses" in told else []
        counts += [5] if "upper" in told else [2] if "lower" in told else []
        if "sentences" in told and told["sentences"]["relation"] == "at least":
            counts.append(told["sentences"]["num_sentences"])
        counts += [1 + told["capitals"]["capital_frequency"] // 2] if "capitals" in told else []
        return max(counts)

    def _too_short(self, body: list[str]) -> bool:
        text, short = " ".join(body), False
        if "words" in self.told and self.told["words"]["relation"] == "at least":
            short = words_in(text) < self.told["words"]["num_words"]
        if "letter" in self.told and self.told["letter"]["let_relation"] == "at least":
            short |= text.lower().count(self.told["letter"]["letter"]) < self.told["letter"]["let_frequency"]
        return short

    def _too_long(self, body: list[str]) -> bool:
        told = self.told
        if "sentences" in told and told["sentences"]["relation"] == "less than":
            return len(body) > told["sentences"]["num_sentences"] - 2  # one is left for an end phrase
        if "words" in told and told["words"]["relation"] == "less than":
            return words_in(" ".join(body)) > told["words"]["num_words"] - 15  # for a title and the like
        return False

    def _marked(self, body: list[str]) -> list[str]:
        """With highlights, and words in capitals."""
        if "highlights" in self.told:
            for place in range(self.told["highlights"]["num_highlights"]):
                body[place] = _with_last_word(body[place], lambda word: f"*{word}*")
        if "capitals" in self.told:
            told = self.told["capitals"]
            count = told["capital_frequency"] - (told["capital_relation"] == "less than")
            for number in range(count):
                place = number % len(body)
                body[place] = _with_last_word(body[place], str.upper)
        return body


def _with_last_word(sentence: str, change: Callable[[str], str]) -> str:
    """The sentence with its last plain word of two and more small letters changed."""
    *_, last = re.finditer(r"(?<![\[*\w])[a-z]{2,}(?![\]*\w])", sentence)
    return sentence[: last.start()] + change(last.group()) + sentence[last.end() :]


def _arranged(sentences: list[str], topic: str, told: Told) -> str:
    """The sentences in the layout that is asked for."""
    if "json" in told:
        return json.dumps({"topic": topic, "text": sentences})
    if "bullets" in told:
        count = told["bullets"]["num_bullets"]
        intro, points = sentences[: len(sentences) - count], sentences[len(sentences) - count :]
        return "\n".join([*([" ".join(intro)] if intro else []), *(f"* {point}" for point in points)])
    if "sections" in told:
        parts = _divided(sentences, told["sections"]["num_sections"])
        name = told["sections"]["section_spliter"]
        return "\n\n".join(f"{name} {number}\n{part}" for number, part in enumerate(parts, start=1))
    if "paragraphs" in told:
        return "\n\n***\n\n".join(_divided(sentences, told["paragraphs"]["num_paragraphs"]))
    if "two_responses" in told:
        return "\n\n******\n\n".join(_divided(sentences, 2))
    if "first_word" in told:
        kwargs = told["first_word"]
        parts = _divided(sentences, kwargs["num_paragraphs"])
        place = kwargs["nth_paragraph"] - 1
        lead = FIRST_WORD_SENTENCE.format(word=kwargs["first_word"].capitalize(), topic=topic)
        parts[place] = f"{lead} {parts[place]}"
        return "\n\n".join(parts)
    return " ".join(sentences)


def _divided(sentences: list[str], count: int) -> list[str]:
    """Paragraphs as even as can be."""
    bounds = [len(sentences) * number // count for number in range(count + 1)]
    return [" ".join(sentences[start:end]) for start, end in pairwise(bounds)]
