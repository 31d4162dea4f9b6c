"""One function for each kind of instruction: (text, kwargs) -> whether the text follows it.

They decide as the benchmark's own checkers do, oddities included, with two exceptions: keywords and forbidden words are
taken as texts, not as regular expressions, and no text, however degenerate, takes more than time linear in its length.
"""

import json
import re

from evals.graders.instructions import kwargs as k
from evals.graders.instructions.language import count_sentences, detect_language, words


def meets(count: int, relation: k.Relation, bound: int) -> bool:
    return count >= bound if relation == "at least" else count < bound


def keywords_existence(text: str, kwargs: k.Keywords) -> bool:
    return all(re.search(re.escape(word), text, re.IGNORECASE) for word in kwargs.keywords)


def keywords_frequency(text: str, kwargs: k.KeywordFrequency) -> bool:
    found = re.findall(re.escape(kwargs.keyword.strip()), text, re.IGNORECASE)
    return meets(len(found), kwargs.relation, kwargs.frequency)


def forbidden_words(text: str, kwargs: k.ForbiddenWords) -> bool:
    return not any(
        re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in kwargs.forbidden_words
    )


def letter_frequency(text: str, kwargs: k.LetterFrequency) -> bool:
    return meets(text.lower().count(kwargs.letter.lower()), kwargs.let_relation, kwargs.let_frequency)


def response_language(text: str, kwargs: k.Language) -> bool:
    return detect_language(text) in (kwargs.language, None)


def number_sentences(text: str, kwargs: k.Sentences) -> bool:
    return meets(count_sentences(text), kwargs.relation, kwargs.num_sentences)


def number_paragraphs(text: str, kwargs: k.Paragraphs) -> bool:
    parts = _filled(re.split(r"\s?\*\*\*\s?", text))
    return parts is not None and len(parts) == kwargs.num_paragraphs


def number_words(text: str, kwargs: k.Words) -> bool:
    return meets(len(re.findall(r"\w+", text)), kwargs.relation, kwargs.num_words)


def nth_paragraph_first_word(text: str, kwargs: k.ParagraphFirstWord) -> bool:
    """Empty parts don't count as paragraphs, and yet shift the place at which the nth is looked for."""
    parts = [part.split() for part in text.split("\n\n")]
    if sum(map(bool, parts)) != kwargs.num_paragraphs or not (wanted := parts[kwargs.nth_paragraph - 1]):
        return False
    first_word = re.split("""[.,?!'"]""", wanted[0].lstrip("'").lstrip('"'), maxsplit=1)[0]
    return first_word.lower() == kwargs.first_word.lower()


def number_placeholders(text: str, kwargs: k.Placeholders) -> bool:
    return sum(_brackets(line) for line in text.split("\n")) >= kwargs.num_placeholders


def postscript(text: str, kwargs: k.Postscript) -> bool:
    marker = kwargs.postscript_marker.strip()
    pattern = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}.get(marker, re.escape(marker.lower()))
    return re.search(pattern, text.lower()) is not None


def number_bullet_lists(text: str, kwargs: k.Bullets) -> bool:
    dashes = sum(line.lstrip().startswith("-") for line in text.split("\n"))
    return dashes + _asterisks(text) == kwargs.num_bullets


def constrained_response(text: str, _: k.Kwargs) -> bool:
    return any(f"My answer is {word}." in text for word in ("yes", "no", "maybe"))


def number_highlighted_sections(text: str, kwargs: k.Highlights) -> bool:
    """A span between double asterisks is looked at twice: alone, and as one between single ones if the text allows."""
    single = [span.strip("*") for span in re.findall(r"\*[^\n*]*\*", text)]
    double = [span[2:-2] for span in re.findall(r"\*\*[^\n*]*\*\*", text)]
    return sum(bool(span.strip()) for span in single + double) >= kwargs.num_highlights


def multiple_sections(text: str, kwargs: k.Sections) -> bool:
    markers = re.findall(rf"{re.escape(kwargs.section_spliter.strip())}\s?\d+", text)
    return len(markers) >= kwargs.num_sections


def json_format(text: str, _: k.Kwargs) -> bool:
    text = text.strip()
    for opening in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(opening)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(text: str, _: k.Kwargs) -> bool:
    return any(map(_has_title, text.split("\n")))


def two_responses(text: str, _: k.Kwargs) -> bool:
    parts = _filled(text.split("******"))
    return parts is not None and len(parts) == 2 and parts[0] != parts[1]


def repeat_prompt(text: str, kwargs: k.Prompt) -> bool:
    return text.strip().lower().startswith(kwargs.prompt_to_repeat.strip().lower())


def end_checker(text: str, kwargs: k.EndPhrase) -> bool:
    return text.strip().strip('"').lower().endswith(kwargs.end_phrase.strip().lower())


def quotation(text: str, _: k.Kwargs) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def capital_word_frequency(text: str, kwargs: k.CapitalWords) -> bool:
    capitals = sum(word.isupper() for word in words(text))
    return meets(capitals, kwargs.capital_relation, kwargs.capital_frequency)


def english_capital(text: str, _: k.Kwargs) -> bool:
    return text.isupper() and detect_language(text) in ("en", None)


def english_lowercase(text: str, _: k.Kwargs) -> bool:
    return text.islower() and detect_language(text) in ("en", None)


def no_comma(text: str, _: k.Kwargs) -> bool:
    return "," not in text


def _filled(parts: list[str]) -> list[str] | None:
    """The parts less an empty first and an empty last one, stripped; None if another one is empty."""
    stripped = [part.strip() for part in parts]
    filled = [part for part in stripped if part]
    return filled if all(stripped[1:-1]) else None


def _brackets(line: str) -> int:
    """How many [spans] there are, each ending at the next closing bracket."""
    count, at = 0, 0
    while (opening := line.find("[", at)) >= 0 and (closing := line.find("]", opening)) >= 0:
        count, at = count + 1, closing + 1
    return count


def _asterisks(text: str) -> int:
    """How many lines are items that begin with one asterisk. A lone asterisk is one if a line follows, which it takes up."""
    count = 0
    lines = iter(text.split("\n"))
    for line in lines:
        start = line.lstrip()
        if start == "*":
            count += next(lines, None) is not None
        else:
            count += start.startswith("*") and not start.startswith("**")
    return count


def _has_title(line: str) -> bool:
    opening, closing = line.find("<<"), line.rfind(">>")
    return 0 <= opening < closing - 2 and bool(line[opening : closing + 2].lstrip("<").rstrip(">").strip())
