"""Settings of generation, read strictly."""

from typing import Any

import pytest

from evals.generation_settings import DEFAULT_MAX_TOKENS, GenerationSettings
from model.errors import UsageError


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, GenerationSettings((), DEFAULT_MAX_TOKENS, 0.0, 1.0, 0)),
        ({"until": "a", "max_gen_toks": 5}, GenerationSettings(("a",), 5, 0.0, 1.0, 0)),
        ({"temperature": 0.7, "top_p": 0.9}, GenerationSettings((), DEFAULT_MAX_TOKENS, 0.7, 0.9, 0)),
        ({"temperature": 0.7, "do_sample": False}, GenerationSettings((), DEFAULT_MAX_TOKENS, 0.0, 1.0, 0)),
        ({"do_sample": True, "top_k": 4}, GenerationSettings((), DEFAULT_MAX_TOKENS, 1.0, 1.0, 4)),
        ({"max_new_tokens": "7", "num_beams": 1}, GenerationSettings((), 7, 0.0, 1.0, 0)),
    ],
)
def test_generation_settings(kwargs: dict[str, Any], expected: GenerationSettings) -> None:
    assert GenerationSettings.of(kwargs, "task") == expected


@pytest.mark.parametrize(
    ("kwargs", "what"),
    [
        ({"num_beams": 4}, "num_beams = 4 is not supported"),
        ({"untill": ["a"]}, "untill = "),
        ({"repetition_penalty": 1.2}, "repetition_penalty = 1.2"),
        ({"top_p": "x"}, "is no number"),
        ({"until": 3}, "until is 3, neither a text nor a list of texts"),
    ],
)
def test_settings_without_effect_are_refused(kwargs: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        GenerationSettings.of(kwargs, "task")
    assert caught.value.where == "task task"
    assert caught.value.remedy
