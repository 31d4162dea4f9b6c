"""All fixed words: how pairs stand behind a document, how the rules ask, what a model is told.

None of it may be RULER's: a model that learned RULER's own sentences would be measured on having seen them
(`tests/stages/data/longqa/test_wording.py` compares runs of five words).
"""

from collections.abc import Iterable

BLANK = "____"

QUESTIONS: dict[str, tuple[str, ...]] = {
    "after": (
        'What are the next {n} after "{cue}"?',
        'Continue by {n}: "{cue} ..."',
        'The text says "{cue}". It goes on with which {n}?',
    ),
    "before": (
        'Which {n} lead up to "{cue}"?',
        'Right before "{cue}" stand which {n}?',
        'Put the {n} in front that belong there: "... {cue}"',
    ),
    "ending": (
        'A sentence opens with "{cue}". What are its last {n}?',
        'With which {n} does the sentence close that starts "{cue}"?',
    ),
    "next_sentence": (
        'Which sentence comes directly after the one that ends in "{cue}"?',
        'Quote the sentence that follows on "{cue}".',
    ),
    "word": (
        'One word is left out here: "{cue}". Which one?',
        'Which word fills the blank in "{cue}"?',
        'Complete this with the missing word: "{cue}"',
    ),
    "name": (
        'Who or what is named at the blank in "{cue}"?',
        'Which name fills the blank in "{cue}"?',
        'Supply the name that is missing: "{cue}"',
    ),
    "number": (
        'Which figure belongs at the blank in "{cue}"?',
        'Supply the figure that is missing: "{cue}"',
        'How does the blank in "{cue}" read? It holds a figure.',
    ),
    "line": (
        "How does the line that begins with `{cue}` continue?",
        "Finish this line: `{cue} ...`",
    ),
    "next_line": (
        "Which line follows on `{cue}`?",
        "Below `{cue}`, what does the next line say?",
    ),
    "parameters": (
        "Which parameters does `{cue}` take where it is defined?",
        "List the parameters in the definition of `{cue}`, in their order.",
    ),
}
"""By kind of question, `{cue}` a quotation and `{n}` "three words" or the like."""

_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")

PROMPT = """Below is an excerpt, cut out of a longer work at arbitrary places.

<excerpt>
{excerpt}
</excerpt>

Write one question with its answer. A reader of the whole work has to find the answer in this excerpt and nowhere else, \
so name the people, things and events that the question is about; do not speak of an excerpt. Copy the answer word for word \
from the excerpt and keep it under forty words. Your reply is one JSON object with the keys "question" and "answer", and \
nothing besides."""


def words(count: int) -> str:
    """ "one word", "three words"."""
    return f"{_COUNTS[count]} word{'' if count == 1 else 's'}"


def render_pair(question: str, answer: str) -> str:
    """A pair as it stands behind a document: two lines, of which neither has a line break inside."""
    return f"Q: {question}\nA: {answer}"


def append_pairs(document: str, pairs: Iterable[str]) -> str:
    """The document, unchanged, and its rendered pairs, each behind a blank line."""
    return "".join([document, *(f"\n\n{pair}" for pair in pairs), "\n"])
