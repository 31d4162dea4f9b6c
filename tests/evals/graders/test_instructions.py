"""IFEval's instructions: each one told right from wrong, what is refused, and texts that are meant to hurt.

tests/peers/test_ifeval_checkers.py compares with lm-eval's checkers.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from evals.graders.grade import Grade, grade, grade_text, validate_spec
from evals.graders.instructions.language import LANGUAGES
from evals.graders.instructions.registry import INSTRUCTIONS
from model.chat.parsers import parse
from model.errors import ArtifactError

ENGLISH = "this is a plain english sentence about the weather"
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["pine", "C++"]}, "Pineapple, c++", "Pineapple, c"),
    ("keywords:frequency", {"keyword": "a.b", "frequency": 2, "relation": "at least"}, "a.b A.B", "a.b axb"),
    ("keywords:forbidden_words", {"forbidden_words": ["C++", "oak"]}, "c and oaks", "We like C++ best"),
    (
        "keywords:letter_frequency",
        {"letter": "E", "let_frequency": 2, "let_relation": "less than"},
        "e",
        "eE",
    ),
    ("language:response_language", {"language": "de"}, "Das Wetter ist heute sehr schön.", ENGLISH),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        "Yes. No.",
        "Yes, Dr. No",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb\n***", "a\n***\n\n***\nb"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "it's", "it's it"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Pine"},
        "oak\n\n\"pine.s'",
        "oak\n\n\n\npine",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] and [b]", "[a and [b]"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye\np.p. s. x", "Bye\nP.S. x"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n - b", "* a\n" * 6),
    ("detectable_format:constrained_response", {}, "Well. My answer is no.", "My answer is No."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* **b**", "*a* ** **"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Part", "num_sections": 2},
        "Part 1 Part2",
        "Part 1 part 2",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    ("detectable_format:title", {}, "<<A day>>\nText", "<< >>\nText"),
    ("combination:two_responses", {}, "a\n******\nb", "a\n******\na"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, "say hi. Hi!", "Hi! Say hi."),
    ("startend:end_checker", {"end_phrase": "The end."}, '"So. the end."', "The end. Bye"),
    ("startend:quotation", {}, '"a"', '"a'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "NASA met the FBI",
        "NASA met them",
    ),
    ("change_case:english_capital", {}, ENGLISH.upper(), ENGLISH),
    ("change_case:english_lowercase", {}, ENGLISH, "das wetter ist heute sehr schön hier"),
    ("punctuation:no_comma", {}, "a; b", "a, b"),
]


def instruct(*instructions: tuple[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    ids, kwargs = zip(*instructions, strict=True)
    return {"name": "instructions", "instruction_id_list": list(ids), "kwargs": list(kwargs), **more}


def test_every_kind_is_here() -> None:
    assert sorted(identifier for identifier, *_ in CASES) == sorted(INSTRUCTIONS)


@pytest.mark.parametrize(("identifier", "kwargs", "right", "wrong"), CASES)
def test_tells_right_from_wrong(identifier: str, kwargs: dict[str, Any], right: str, wrong: str) -> None:
    spec = instruct((identifier, kwargs))
    assert grade_text(spec, right).score == 1.0
    assert grade_text(spec, wrong) == Grade(
        0.0,
        dict.fromkeys(("prompt_strict", "prompt_loose", "instruction_strict", "instruction_loose"), 0.0),
        f"not followed: {identifier}",
    )
    assert grade_text(spec, "").score == grade_text(spec, " \n").score == 0.0


def test_parts_are_the_four_figures_of_the_benchmark() -> None:
    spec = instruct(("punctuation:no_comma", {}), ("startend:quotation", {}), ("detectable_format:title", {}))
    answer = 'Sure, here it is:\n"<<A title>>"'
    assert grade_text(spec, answer) == Grade(
        0.0,
        {
            "prompt_strict": 0.0,
            "prompt_loose": 1.0,
            "instruction_strict": 1 / 3,
            "instruction_loose": 1.0,
        },
        "not followed: punctuation:no_comma, startend:quotation",
    )
    assert grade_text({**spec, "strict": False}, answer).score == 1.0


def test_each_instruction_may_pass_in_another_reading() -> None:
    """Without its first line the answer has no comma, and only with it a title."""
    spec = instruct(("punctuation:no_comma", {}), ("detectable_format:title", {}), strict=False)
    grade = grade_text(spec, "<<Rain, snow>>\nIt rains")
    assert grade.score == grade.parts["instruction_loose"] == 1.0


def test_the_thinking_is_not_graded() -> None:
    spec = instruct(("punctuation:no_comma", {}))
    assert grade_text(spec, "one, two</think>three", thinking=True).score == 1.0
    assert grade_text(spec, "one two and no answer", thinking=True).score == 0.0


def test_keys_that_are_null_count_as_left_out() -> None:
    kwargs = {"num_bullets": None, "prompt_to_repeat": None}
    assert grade_text(instruct(("punctuation:no_comma", kwargs)), "a").score == 1.0
    repeat = instruct(("combination:repeat_prompt", kwargs), prompt="Say hi.")
    assert grade_text(repeat, "Say hi. Hi!").score == 1.0
    assert grade_text(repeat, "Hi!").score == 0.0


def test_bounds_of_zero_are_taken_as_written() -> None:
    assert (
        grade_text(
            instruct(("keywords:frequency", {"keyword": "x", "frequency": 0, "relation": "at least"})), "a"
        ).score
        == 1.0
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"instruction_id_list": ["keywords:exists"]}, "unknown instruction 'keywords:exists'"),
        ({"instruction_id_list": []}, "instruction_id_list is empty"),
        ({"instruction_id_list": ["punctuation:no_comma"] * 2}, "2 instructions, but 1 sets of kwargs"),
        ({"instruction_id_list": "punctuation:no_comma"}, "instruction_id_list"),
        ({"kwargs": [{}]}, "kwargs of keywords:frequency: keyword: Field required"),
        ({"kwargs": [None]}, "kwargs"),
        ({"kwargs": {}}, "kwargs"),
        ({"strict": "yes"}, "strict"),
        ({"strictly": True}, "strictly"),
        ({"more": {"frequency": "2"}}, "frequency: Input should be a valid integer"),
        ({"more": {"frequency": True}}, "frequency"),
        ({"more": {"frequency": -1}}, "frequency"),
        ({"more": {"frequency": float("nan")}}, "frequency"),
        ({"more": {"relation": "at most"}}, "relation"),
        ({"more": {"keyword": " "}}, "keyword"),
        ({"more": {"keywords": []}}, "keywords"),
    ],
)
def test_malformed_specifications_are_refused(changes: dict[str, Any], words: str) -> None:
    told = {"keyword": "a", "frequency": 1, "relation": "at least", **changes.pop("more", {})}
    with pytest.raises(ArtifactError) as caught:
        validate_spec({**instruct(("keywords:frequency", told)), **changes})
    assert words in caught.value.what
    assert caught.value.where == "grader 'instructions'"


@pytest.mark.parametrize(
    ("identifier", "kwargs"),
    [
        ("language:response_language", {"language": "xx"}),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 1, "nth_paragraph": 2, "first_word": "a"},
        ),
        ("keywords:letter_frequency", {"letter": "ab", "let_frequency": 1, "let_relation": "at least"}),
        ("keywords:existence", {"keywords": []}),
        ("combination:repeat_prompt", {}),
    ],
)
def test_instructions_that_no_text_can_follow_are_refused(identifier: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match=identifier):
        validate_spec(instruct((identifier, kwargs)))


def test_degenerate_texts_take_no_time() -> None:
    spec = instruct(*((identifier, kwargs) for identifier, kwargs, _, _ in CASES))
    for piece in (
        "\n",
        "[",
        "<<",
        "*",
        "A. ",
        "p.",
        "-\n",
        "\n\n",
        '"',
        "{" * 5,
        "a",
        "Ä",
        " " * 5,
        "Part 1",
    ):
        start = time.perf_counter()
        grade(spec, parse(piece * 10_000 + "x"))
        assert time.perf_counter() - start < 10, repr(piece)


def test_the_language_is_the_same_every_time_and_in_every_thread() -> None:
    spec = instruct(("language:response_language", {"language": "af"}))
    short = ["ja nee", "no es", "tak da", "nu", "en een", "das de", "la ma", "o a"] * 10
    alone = [grade_text(spec, text) for text in short]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: grade_text(spec, text), short)) == alone


def test_the_languages_are_those_of_langdetect() -> None:
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory

    factory = DetectorFactory()
    factory.load_profile(PROFILES_DIRECTORY)
    assert sorted(factory.get_lang_list()) == sorted(LANGUAGES)
