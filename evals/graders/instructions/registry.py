"""The 25 kinds of instruction by their IFEval ids. A synthesizer of prompts can verify with them what it wrote:

instruction = INSTRUCTIONS["keywords:existence"]
instruction.check(text, instruction.kwargs.model_validate({"keywords": ["pine"]}))
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evals.graders.instructions import checks
from evals.graders.instructions import kwargs as k


@dataclass(frozen=True)
class Instruction:
    """check: (text, kwargs) -> whether the text follows it. kwargs: the pydantic model of what it is told."""

    check: Callable[[str, Any], bool]
    kwargs: type[k.Kwargs]


INSTRUCTIONS: dict[str, Instruction] = {
    "keywords:existence": Instruction(checks.keywords_existence, k.Keywords),
    "keywords:frequency": Instruction(checks.keywords_frequency, k.KeywordFrequency),
    "keywords:forbidden_words": Instruction(checks.forbidden_words, k.ForbiddenWords),
    "keywords:letter_frequency": Instruction(checks.letter_frequency, k.LetterFrequency),
    "language:response_language": Instruction(checks.response_language, k.Language),
    "length_constraints:number_sentences": Instruction(checks.number_sentences, k.Sentences),
    "length_constraints:number_paragraphs": Instruction(checks.number_paragraphs, k.Paragraphs),
    "length_constraints:number_words": Instruction(checks.number_words, k.Words),
    "length_constraints:nth_paragraph_first_word": Instruction(
        checks.nth_paragraph_first_word, k.ParagraphFirstWord
    ),
    "detectable_content:number_placeholders": Instruction(checks.number_placeholders, k.Placeholders),
    "detectable_content:postscript": Instruction(checks.postscript, k.Postscript),
    "detectable_format:number_bullet_lists": Instruction(checks.number_bullet_lists, k.Bullets),
    "detectable_format:constrained_response": Instruction(checks.constrained_response, k.Kwargs),
    "detectable_format:number_highlighted_sections": Instruction(
        checks.number_highlighted_sections, k.Highlights
    ),
    "detectable_format:multiple_sections": Instruction(checks.multiple_sections, k.Sections),
    "detectable_format:json_format": Instruction(checks.json_format, k.Kwargs),
    "detectable_format:title": Instruction(checks.title, k.Kwargs),
    "combination:two_responses": Instruction(checks.two_responses, k.Kwargs),
    "combination:repeat_prompt": Instruction(checks.repeat_prompt, k.Prompt),
    "startend:end_checker": Instruction(checks.end_checker, k.EndPhrase),
    "startend:quotation": Instruction(checks.quotation, k.Kwargs),
    "change_case:capital_word_frequency": Instruction(checks.capital_word_frequency, k.CapitalWords),
    "change_case:english_capital": Instruction(checks.english_capital, k.Kwargs),
    "change_case:english_lowercase": Instruction(checks.english_lowercase, k.Kwargs),
    "punctuation:no_comma": Instruction(checks.no_comma, k.Kwargs),
}
