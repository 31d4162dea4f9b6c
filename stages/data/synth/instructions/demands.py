"""The 25 kinds of demands, IFEval's: how each is drawn, worded and accounted for.

Kwargs and ids are IFEval's, so the `instructions` grader of `evals/graders` judges the answers.
"""

import re
from collections.abc import Callable

from stages.data.synth.dice import Dice
from stages.data.synth.instructions.demand import Demand, Kwargs, capitals_in, sentences_in, words_in
from stages.data.synth.instructions.languages import LANGUAGES
from stages.data.synth.instructions.topics import AVOIDABLE, END_PHRASES, FIRST_WORDS, KEYWORDS
from stages.data.synth.problem import Wordings
from stages.data.synth.reasoning.base import listing


def _demand(
    name: str,
    id: str,
    family: str,
    trained: tuple[str, ...],
    held_out: tuple[str, ...],
    draw: Callable[[Dice, int], Kwargs],
    account: Callable[[Kwargs, str], str],
    slots: str,
    easy: bool = False,
) -> Demand:
    return Demand(
        name, id, family, Wordings(trained, held_out), draw, account, frozenset(slots.split()), easy
    )


def _count_of(word: str, text: str) -> int:
    return text.lower().count(word.lower())


def _nothing(_dice: Dice, _level: int) -> Kwargs:
    return {}


def _relation(dice: Dice) -> str:
    return dice.choice(("at least", "less than"))


def _existence(dice: Dice, level: int) -> Kwargs:
    return {"keywords": sorted(dice.sample(KEYWORDS, dice.integer(1, 1 if level == 1 else 3)))}


def _frequency(dice: Dice, level: int) -> Kwargs:
    relation = "at least" if level == 1 else _relation(dice)
    return {
        "keyword": dice.choice(KEYWORDS),
        "frequency": dice.integer(2, 2 + min(level, 3)),
        "relation": relation,
    }


def _forbidden(dice: Dice, level: int) -> Kwargs:
    return {"forbidden_words": sorted(dice.sample(AVOIDABLE, dice.integer(1, 1 + min(level, 2))))}


def _letters(dice: Dice, _level: int) -> Kwargs:
    if _relation(dice) == "at least":
        return {
            "letter": dice.choice("aeinorst"),
            "let_frequency": dice.integer(4, 12),
            "let_relation": "at least",
        }
    return {
        "letter": dice.choice("bcjkpqvxz"),
        "let_frequency": dice.integer(3, 6),
        "let_relation": "less than",
    }


def _sentences(dice: Dice, level: int) -> Kwargs:
    relation = _relation(dice)
    if relation == "at least":
        return {"num_sentences": dice.integer(2, 3 + 2 * level), "relation": relation}
    return {"num_sentences": dice.integer(4, 6 + level), "relation": relation}


def _words(dice: Dice, level: int) -> Kwargs:
    relation = _relation(dice)
    if relation == "at least":
        return {"num_words": 5 * dice.integer(2, 4 + 4 * level), "relation": relation}
    return {"num_words": 5 * dice.integer(4 + 3 * level, 8 + 6 * level), "relation": relation}


def _first_word(dice: Dice, level: int) -> Kwargs:
    paragraphs = dice.integer(2, 2 + min(level, 4))
    word = dice.choice(FIRST_WORDS)
    return {"num_paragraphs": paragraphs, "nth_paragraph": dice.integer(1, paragraphs), "first_word": word}


def _number(key: str, low: int, high: int) -> Callable[[Dice, int], Kwargs]:
    """From `low` at level 1 up to `high`, one more a level."""
    return lambda dice, level: {key: dice.integer(low, min(low + level, high))}


def _sections(dice: Dice, level: int) -> Kwargs:
    splitter = dice.choice(("Section", "SECTION", "Part", "Chapter"))
    return {"section_spliter": splitter, "num_sections": dice.integer(2, min(2 + level, 5))}


def _capitals(dice: Dice, level: int) -> Kwargs:
    return {"capital_frequency": dice.integer(2, 3 + level), "capital_relation": _relation(dice)}


def _marker(dice: Dice, _level: int) -> Kwargs:
    return {"postscript_marker": dice.choice(("P.S.", "P.P.S"))}


def _bounds(count: int, kwargs: Kwargs, key: str, relation: str, what: str) -> str:
    return f"{what}: {kwargs[relation]} {kwargs[key]} asked, {count} in my answer"


DEMANDS: dict[str, Demand] = {
    demand.name: demand
    for demand in (
        _demand(
            "existence",
            "keywords:existence",
            "keywords",
            ("Use these words: {keywords}.", "Include {keywords} in your answer.", "Mention {keywords}."),
            ("Make sure that {keywords} can be found in the text.",),
            _existence,
            lambda told, _: f"words to use: {listing(told['keywords'])}",
            "existence",
            easy=True,
        ),
        _demand(
            "frequency",
            "keywords:frequency",
            "keywords",
            (
                "Use the word {keyword} {relation} {frequency} times.",
                "The word {keyword} should come {relation} {frequency} times.",
            ),
            ("Let {keyword} appear {relation} {frequency} times in your text.",),
            _frequency,
            lambda told, text: _bounds(
                _count_of(told["keyword"], text), told, "frequency", "relation", f"the word {told['keyword']}"
            ),
            "frequency existence",
            easy=True,
        ),
        _demand(
            "forbidden",
            "keywords:forbidden_words",
            "keywords",
            ("Do not use these words: {forbidden_words}.", "Avoid {forbidden_words} in your answer."),
            ("The text has to do without {forbidden_words}.",),
            _forbidden,
            lambda told, _: f"words to avoid: {listing(told['forbidden_words'])}",
            "forbidden",
        ),
        _demand(
            "letter",
            "keywords:letter_frequency",
            "keywords",
            (
                "The letter {letter} should appear {let_relation} {let_frequency} times.",
                "Use the letter {letter} {let_relation} {let_frequency} times.",
            ),
            ("Write it so that {let_relation} {let_frequency} letters {letter} are in it.",),
            _letters,
            lambda told, text: _bounds(
                _count_of(told["letter"], text),
                told,
                "let_frequency",
                "let_relation",
                f"the letter {told['letter']}",
            ),
            "letter words sentences existence frequency placeholders title end_phrase postscript sections first_word",
        ),
        _demand(
            "sentences",
            "length_constraints:number_sentences",
            "length",
            (
                "Answer in {relation} {num_sentences} sentences.",
                "Write {relation} {num_sentences} sentences.",
            ),
            ("The number of sentences should be {relation} {num_sentences}.",),
            _sentences,
            lambda told, text: _bounds(sentences_in(text), told, "num_sentences", "relation", "sentences"),
            "size layout case postscript repeat title placeholders existence frequency highlights capitals",
            easy=True,
        ),
        _demand(
            "words",
            "length_constraints:number_words",
            "length",
            ("Use {relation} {num_words} words.", "Your answer should have {relation} {num_words} words."),
            ("Keep the length at {relation} {num_words} words.",),
            _words,
            lambda told, text: _bounds(words_in(text), told, "num_words", "relation", "words"),
            "size repeat json",
            easy=True,
        ),
        _demand(
            "paragraphs",
            "length_constraints:number_paragraphs",
            "length",
            (
                "Write exactly {num_paragraphs} paragraphs with *** between them.",
                "Separate your {num_paragraphs} paragraphs by ***.",
            ),
            ("The text should fall into {num_paragraphs} paragraphs, divided by the line ***.",),
            _number("num_paragraphs", 2, 6),
            lambda told, text: (
                f"paragraphs: {told['num_paragraphs']} asked, {text.count('***') + 1} in my answer"
            ),
            "layout highlights repeat",
        ),
        _demand(
            "first_word",
            "length_constraints:nth_paragraph_first_word",
            "length",
            (
                "Write {num_paragraphs} paragraphs with an empty line between them. Paragraph {nth_paragraph} must start "
                "with the word {first_word}.",
                "There should be {num_paragraphs} paragraphs, separated by empty lines, and the first word of paragraph "
                "{nth_paragraph} is {first_word}.",
            ),
            (
                "Use {num_paragraphs} paragraphs with blank lines between them, of which number {nth_paragraph} begins with "
                "{first_word}.",
            ),
            _first_word,
            lambda told, text: (
                f"paragraphs: {told['num_paragraphs']} asked, {len(text.split(chr(10) * 2))} in my answer; "
                f"number {told['nth_paragraph']} begins with {told['first_word']}"
            ),
            "layout title postscript repeat end_phrase quotation",
        ),
        _demand(
            "bullets",
            "detectable_format:number_bullet_lists",
            "layout",
            (
                "Use exactly {num_bullets} bullet points, each starting with *.",
                "Your answer must have {num_bullets} bullet points in markdown (* like this).",
            ),
            ("Put exactly {num_bullets} points into a list with * at the start of each line.",),
            _number("num_bullets", 2, 6),
            lambda told, text: (
                f"bullet points: {told['num_bullets']} asked, "
                f"{sum(line.startswith('* ') for line in text.split(chr(10)))} in my answer"
            ),
            "layout highlights repeat",
            easy=True,
        ),
        _demand(
            "title",
            "detectable_format:title",
            "layout",
            (
                "Give it a title in double angular brackets, like <<title>>.",
                "Add a title, written as <<title>>.",
            ),
            ("Above the text there should be a heading between << and >>.",),
            _nothing,
            lambda _, text: f"title: {re.findall('<<.*>>', text)[0]}",
            "title sentences",
            easy=True,
        ),
        _demand(
            "sections",
            "detectable_format:multiple_sections",
            "layout",
            (
                "Divide it into {num_sections} sections and begin each with {section_spliter} and its number.",
                "Your answer must have {num_sections} sections, marked {section_spliter} 1 and so on.",
            ),
            (
                "Break the text into {num_sections} sections under the headings {section_spliter} 1 to {num_sections}.",
            ),
            _sections,
            lambda told, text: (
                f"sections: {told['num_sections']} asked, "
                f"{len(re.findall(told['section_spliter'] + ' [0-9]', text))} in my answer"
            ),
            "layout upper lower repeat capitals",
        ),
        _demand(
            "highlights",
            "detectable_format:number_highlighted_sections",
            "layout",
            (
                "Highlight at least {num_highlights} parts with markdown, like *this*.",
                "Mark at least {num_highlights} words with asterisks, as in *word*.",
            ),
            ("At least {num_highlights} places should stand out *like this one*.",),
            _number("num_highlights", 1, 4),
            lambda told, text: (
                f"highlights: at least {told['num_highlights']} asked, "
                f"{len(re.findall('[*][a-zA-Z]+[*]', text))} in my answer"
            ),
            "highlights json two_responses bullets paragraphs",
        ),
        _demand(
            "placeholders",
            "detectable_content:number_placeholders",
            "layout",
            (
                "Leave at least {num_placeholders} placeholders in square brackets, such as [address].",
                "Use at least {num_placeholders} placeholders like [name].",
            ),
            ("At least {num_placeholders} gaps in square brackets should be left to fill in, as [city].",),
            _number("num_placeholders", 1, 6),
            lambda told, text: (
                f"placeholders: at least {told['num_placeholders']} asked, {text.count('[')} in my answer"
            ),
            "placeholders sentences",
            easy=True,
        ),
        _demand(
            "postscript",
            "detectable_content:postscript",
            "layout",
            (
                "Add a postscript that starts with {postscript_marker} at the end.",
                "After the text put a postscript marked {postscript_marker} there.",
            ),
            ("There should be an afterthought under {postscript_marker} at the bottom.",),
            _marker,
            lambda told, _: f"a postscript at the end: {told['postscript_marker']}",
            "ending sentences capitals json two_responses",
            easy=True,
        ),
        _demand(
            "json",
            "detectable_format:json_format",
            "layout",
            ("Give the whole answer as JSON.", "Write your entire answer in JSON format."),
            ("Nothing but one JSON object, please.",),
            _nothing,
            lambda _told, _text: "format: one JSON object",
            "layout ending case upper lower capitals no_comma title size highlights repeat letter",
        ),
        _demand(
            "upper",
            "change_case:english_capital",
            "style",
            ("Write everything in capital letters.", "Use capital letters only. Answer in English."),
            ("The whole English text should be in upper case.",),
            _nothing,
            lambda _told, _text: "letters: all of them capitals",
            "case repeat language letter",
        ),
        _demand(
            "lower",
            "change_case:english_lowercase",
            "style",
            ("Write everything in lowercase letters.", "Use lowercase letters only. Answer in English."),
            ("No capital letter is allowed in the English text.",),
            _nothing,
            lambda _told, _text: "letters: all of them small",
            "case repeat language",
            easy=True,
        ),
        _demand(
            "capitals",
            "change_case:capital_word_frequency",
            "style",
            (
                "Write {capital_relation} {capital_frequency} words in capital letters only.",
                "Words in all capital letters should appear {capital_relation} {capital_frequency} times.",
            ),
            ("Let {capital_relation} {capital_frequency} words be in full capitals.",),
            _capitals,
            lambda told, text: _bounds(
                capitals_in(text), told, "capital_frequency", "capital_relation", "words in capitals"
            ),
            "case repeat end_phrase",
        ),
        _demand(
            "no_comma",
            "punctuation:no_comma",
            "style",
            ("Do not use any commas.", "Write it without commas."),
            ("There should be no comma anywhere in the text.",),
            _nothing,
            lambda _, text: f"commas: {text.count(',')}",
            "no_comma",
            easy=True,
        ),
        _demand(
            "end_phrase",
            "startend:end_checker",
            "style",
            ("Finish with exactly these words: '{end_phrase}'", "The last words should be '{end_phrase}'"),
            ("Let nothing follow after the closing phrase '{end_phrase}'",),
            lambda dice, _: {"end_phrase": dice.choice(END_PHRASES)},
            lambda told, _: f"last words: {told['end_phrase']}",
            "ending json",
            easy=True,
        ),
        _demand(
            "quotation",
            "startend:quotation",
            "style",
            ("Wrap the whole answer in double quotation marks.", "Put your entire answer in double quotes."),
            ('The text should start and end with the sign ".',),
            _nothing,
            lambda _told, _text: "first and last sign: a double quotation mark",
            "ending json two_responses repeat",
            easy=True,
        ),
        _demand(
            "repeat",
            "combination:repeat_prompt",
            "whole",
            (
                "First repeat the request above word for word, then answer it.",
                "Before you answer, repeat the request above without any change.",
            ),
            ("Begin with an exact copy of the request above and only then give your answer.",),
            _nothing,
            lambda told, _: f"begin with the request: {told['prompt_to_repeat']}",
            "repeat forbidden letter frequency title layout",
            easy=True,
        ),
        _demand(
            "two_responses",
            "combination:two_responses",
            "whole",
            (
                "Give two different answers, separated by six asterisks (******).",
                "Write two different responses with ****** between them.",
            ),
            ("I want a choice of two answers, divided by a line ****** between them.",),
            _nothing,
            lambda _, text: f"answers: {len(text.split('******'))} with ****** between them",
            "layout repeat ending case size",
            easy=True,
        ),
        _demand(
            "language",
            "language:response_language",
            "whole",
            ("Answer in {language_name} only.", "Your whole answer should be in {language_name}."),
            ("Do not write in any other language than {language_name}.",),
            lambda dice, _: {"language": dice.choice(tuple(LANGUAGES))},
            lambda told, _: f"language: {LANGUAGES[told['language']]}",
            "layout repeat ending case size existence frequency forbidden letter placeholders highlights title "
            "capitals paragraphs first_word",
            easy=True,
        ),
        _demand(
            "choice",
            "detectable_format:constrained_response",
            "whole",
            (
                "Reply with one of these: My answer is yes. My answer is no. My answer is maybe.",
                "Choose one of: 'My answer is yes.', 'My answer is no.', 'My answer is maybe.'",
            ),
            ("Only these replies are allowed: My answer is yes. / My answer is no. / My answer is maybe.",),
            _nothing,
            lambda _told, _text: "one of the three replies",
            "layout repeat ending case size existence frequency forbidden letter placeholders highlights title language "
            "capitals",
            easy=True,
        ),
    )
}
