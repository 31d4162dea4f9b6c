"""Nothing that the writer says may be RULER's: runs of five words are compared."""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from stages.common.data.words import words_of
from stages.data.longqa.wording import PROMPT, QUESTIONS, append_pairs, render_pair, words

ROOT = Path(__file__).parents[4]
SPEC = find_spec("lm_eval")
assert SPEC is not None
assert SPEC.origin is not None
RULERS = {
    "lm-eval": sorted((Path(SPEC.origin).parent / "tasks" / "ruler").iterdir()),
    "nano2": sorted([*(ROOT / "evals" / "ruler").rglob("*"), *(ROOT / "evals" / "tasks").glob("*ruler*")]),
}
RUN = 5


def _texts(paths: list[Path]) -> Iterator[str]:
    """Every string of the modules and all of the task files."""
    for path in paths:
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
        elif path.suffix in (".yaml", ".jinja"):
            yield path.read_text(encoding="utf-8")


def _runs(text: str) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)}


def _our_texts() -> list[str]:
    asked = [
        wording.format(cue=cue, n=words(4))
        for wordings in QUESTIONS.values()
        for wording in wordings
        for cue in ("x", "")
    ]
    asked += [wording for wordings in QUESTIONS.values() for wording in wordings]
    return [*asked, PROMPT, append_pairs("", [render_pair("", "")] * 2), *map(words, range(1, 9))]


@pytest.mark.parametrize("whose", RULERS)
def test_no_five_words_in_a_row_are_rulers(whose: str) -> None:
    theirs = set().union(*map(_runs, _texts(RULERS[whose])))
    assert len(theirs) > 200
    if whose == "lm-eval":
        assert ("find", "all", "variables", "that", "are") in theirs
    ours = set().union(*map(_runs, _our_texts()))
    assert len(ours) > 100
    assert not ours & theirs


def test_no_question_speaks_of_what_ruler_asks_for() -> None:
    for text in _our_texts():
        assert not {"magic", "needle", "variable", "variables", "memorize", "quiz"} & set(words_of(text))


def test_the_layout() -> None:
    assert append_pairs("Text.\n", [render_pair("Why?", "So."), render_pair("Who?", "Ada.")]) == (
        "Text.\n\n\nQ: Why?\nA: So.\n\nQ: Who?\nA: Ada.\n"
    )


def test_each_kind_has_several_wordings_that_take_its_parts() -> None:
    for kind, wordings in QUESTIONS.items():
        assert len(set(wordings)) >= 2
        for wording in wordings:
            filled = wording.format(cue="CUE", n="four words")
            assert "CUE" in filled
            assert ("four words" in filled) == (kind in ("after", "before", "ending"))
