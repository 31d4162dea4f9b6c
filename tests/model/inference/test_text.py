"""Text pieces: whole characters only, and nothing from a stop string on."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from model.inference.text import StopStrings, TextStream
from model.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> PreTrainedTokenizerBase:
    loaded: PreTrainedTokenizerBase = load_tokenizer(tokenizer_directory)
    return loaded


def pieces(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    stream = TextStream(tokenizer)
    return [*map(stream.push, ids), stream.finish()]


@given(data=st.data())
def test_pieces_add_up_to_the_decoded_text(tokenizer: PreTrainedTokenizerBase, data: st.DataObject) -> None:
    """Of any tokens, so also of bytes that are no UTF-8 and of special tokens."""
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=40))
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


@given(text=st.text(st.sampled_from("ab ä語🎉e\u0301"), max_size=30))
def test_a_character_of_several_tokens_comes_whole(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    shown = pieces(tokenizer, ids)
    assert "".join(shown) == text
    assert not any("\ufffd" in piece for piece in shown)


def test_text_is_shown_with_the_token_that_completes_it(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("a🎉b", add_special_tokens=False)["input_ids"]
    assert len(ids) > 3, "the emoji has to be several tokens here"
    shown = pieces(tokenizer, ids)
    assert shown[0] == "a"
    assert shown[1:-3] == [""] * len(shown[1:-3])
    assert shown[-3:] == ["🎉", "b", ""]


def test_an_unfinished_character_is_shown_as_such_at_the_end(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("a🎉", add_special_tokens=False)["input_ids"]
    shown = pieces(tokenizer, ids[:-1])
    assert "".join(shown[:-1]) == "a"
    assert shown[-1] == "\ufffd"


def fed(stops: StopStrings, parts: list[str]) -> list[str]:
    return [*map(stops.push, parts), stops.finish()]


@given(
    text=st.text("ab\n", max_size=30),
    strings=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 30), max_size=8),
)
def test_any_split_gives_the_text_before_the_first_stop_string(
    text: str, strings: list[str], cuts: list[int]
) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut <= len(text))})
    parts = [text[start:end] for start, end in pairwise(places)]
    found = [place for string in strings if (place := text.find(string)) >= 0]
    stops = StopStrings(strings)
    released = fed(stops, parts)
    # Read in pieces, the stop string that ends first is met first; read whole, the one that begins first.
    if not found:
        assert "".join(released) == text
        assert not stops.stopped
    else:
        assert stops.stopped
        assert text.startswith("".join(released))
        assert not any(string in "".join(released) for string in strings)
        if len(parts) <= 1:
            assert "".join(released) == text[: min(found)]


def test_what_may_become_a_stop_string_is_held_back() -> None:
    stops = StopStrings(["END", "\n\n"])
    assert [stops.push(part) for part in ("aE", "Nb", "\n", "c", "\n", "\n", "d")] == [
        *("a", "ENb", "", "\nc", "", "", ""),
    ]
    assert stops.stopped
    assert stops.finish() == ""


def test_stop_strings_count_only_behind_the_marker() -> None:
    stops = StopStrings(["\n\n"], after="</think>")
    assert "".join(fed(stops, ["a\n\nb</thi", "nk>c\n", "\nd"])) == "a\n\nb</think>c"
    assert stops.stopped


def test_white_space_behind_the_marker_is_not_the_answer_yet() -> None:
    for parts in (["a</think>\n\nb\n\nc"], [*"a</think>\n\nb\n\nc"]):
        assert "".join(fed(StopStrings(["\n\n"], after="</think>"), parts)) == "a</think>\n\nb"


def test_without_its_marker_nothing_stops() -> None:
    stops = StopStrings(["\n\n"], after="</think>")
    assert "".join(fed(stops, ["a\n\nb</thi", "x"])) == "a\n\nb</thix"
    assert not stops.stopped
