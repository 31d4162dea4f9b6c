"""The incremental parser: any split gives the parse of the whole, and that is as docs/chat.md says."""

import json
import random
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.chat.events import ContentDelta, Defect, Event, Events, Malformed, ReasoningDelta, coalesce
from model.chat.parsers import Phase, append, feed, feed_bytes, finish, parse, start
from model.chat.tool_calls import ToolCall, parse_block

FRAGMENTS = [
    *("<think>", "</think>", "<TOOLCALL>", "</TOOLCALL>"),
    *("<", "<t", "</", "<TOOL", "</TOOLCALL", "think>", ">", "<think", "</think ", "<<think>"),
    *('[{"name": "f", "arguments": {"a": 1}}]', '[{"name":"g","arguments":"{\\"b\\": [2]}"}]'),
    *('"', "\\", '\\"', "{", "}", "[", "]", ":", ",", "null", "1e5"),
    *("words of text", "ü", "中文", "𝄞", "\n", "\n\n", " ", "\t", "\x00", "\u2028", "."),
    '<TOOLCALL>[{"name": "f", "arguments": {"a": "</TOOLCALL> <think> \\" ]}"}}]</TOOLCALL>',
]


def events_of(pieces: list[str] | list[bytes], thinking: bool) -> Events:
    state = start(thinking=thinking)
    events: list[Event] = []
    for piece in pieces:
        state, new = feed_bytes(state, piece) if isinstance(piece, bytes) else feed(state, piece)
        events += new
    _, new = finish(state)
    return coalesce([*events, *new])


def samples(n: int) -> Iterator[tuple[str, random.Random]]:
    for seed in range(n):
        rng = random.Random(seed)
        yield "".join(rng.choices(FRAGMENTS, k=rng.randint(0, 14))), rng


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    places = sorted(rng.choices(range(len(data) + 1), k=rng.randint(1, 8)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


class TestSplits:
    def test_ten_thousand_samples_in_random_pieces(self) -> None:
        for text, rng in samples(10_000):
            thinking = rng.random() < 0.5
            whole = events_of([text], thinking)
            assert events_of(cut(text.encode(), rng), thinking) == whole, text

    def test_single_characters_and_single_bytes(self) -> None:
        for text, rng in samples(1_000):
            thinking = rng.random() < 0.5
            whole = events_of([text], thinking)
            assert events_of(list(text), thinking) == whole, text
            assert events_of([bytes([byte]) for byte in text.encode()], thinking) == whole, text

    @settings(max_examples=500, deadline=None)
    @given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=6), max_size=12), st.booleans())
    def test_pieces_as_hypothesis_finds_them(self, pieces: list[str], thinking: bool) -> None:
        assert events_of(pieces, thinking) == events_of(["".join(pieces)], thinking)

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.binary(max_size=5), max_size=6))
    def test_invalid_utf8_in_any_split(self, pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        assert events_of(pieces, False) == events_of([data], False)
        assert parse(data.decode(errors="replace")).content == "".join(
            event.text for event in events_of(pieces, False) if isinstance(event, ContentDelta)
        )

    def test_nothing_is_held_that_is_no_start_of_a_tag(self) -> None:
        """A client sees text as soon as it cannot be a tag or white space at the end."""
        state, events = feed(start(thinking=False), "a<b</thinker <TOOLC")
        assert events == (ContentDelta("a<b</thinker"),)
        state, events = feed(state, "ASE>")
        assert events == (ContentDelta(" <TOOLCASE>"),)

    def test_states_are_values(self) -> None:
        before = start(thinking=True)
        state, _ = feed(before, "a <TOOL")
        assert feed(state, "x")[1] == feed(state, "x")[1]
        assert before == start(thinking=True)
        assert state.phase is Phase.REASONING


BLOCK = re.compile(r'<TOOLCALL>((?:"(?:\\.|[^"\\])*"|[^"<])*)</TOOLCALL>')
STRING = st.text(max_size=8) | st.sampled_from(["</TOOLCALL>", "<think>", '"', "\\", "]}", "\n"])
VALUE = st.recursive(
    STRING | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRING, inner, max_size=3),
    max_leaves=4,
)
PROSE = st.text(alphabet=st.characters(exclude_characters="<>"), max_size=12) | st.sampled_from(
    ["a < b", "<b>", "\n"]
)
CALLS = st.lists(
    st.tuples(st.sampled_from(["f", "größe"]), st.dictionaries(STRING, VALUE, max_size=3)), min_size=1
)


def block_text(calls: list[tuple[str, dict[str, object]]], indent: int | None) -> str:
    body = json.dumps([{"name": n, "arguments": a} for n, a in calls], ensure_ascii=False, indent=indent)
    return f"<TOOLCALL>{body}</TOOLCALL>"


class TestWholeText:
    @settings(max_examples=100, deadline=None)
    @given(PROSE, st.lists(st.tuples(PROSE, CALLS), max_size=3), PROSE, st.sampled_from([None, 2]))
    def test_well_formed_messages_agree_with_a_regular_expression(
        self,
        thought: str,
        parts: list[tuple[str, list[tuple[str, dict[str, object]]]]],
        last: str,
        indent: int | None,
    ) -> None:
        answer = "".join(prose + block_text(calls, indent) for prose, calls in parts) + last
        message = parse(f"{thought}</think>{answer}", thinking=True)
        assert message == parse(f"<think>{thought}</think>{answer}")
        assert message.well_formed
        assert message.reasoning == thought.strip()
        assert message.content == BLOCK.sub("", answer).strip()
        expected = [call for body in BLOCK.findall(answer) for call in json.loads(body)]
        assert [
            {"name": call.name, "arguments": json.loads(call.arguments)} for call in message.tool_calls
        ] == expected
        assert [call.index for call in message.tool_calls] == list(range(len(expected)))
        assert all(call.arguments in answer for call in message.tool_calls)

    @pytest.mark.parametrize(
        ("text", "thinking", "reasoning", "content", "defects"),
        [
            ("", False, "", "", []),
            ("answer", False, "", "answer", []),
            ("  answer \n", False, "", "answer", []),
            ("r</think>a", True, "r", "a", []),
            ("\n r \n</think>\n\n a \n b \n", True, "r", "a \n b", []),
            ("</think>\n\na", True, "", "a", []),
            (" <think>\nr</think>a", False, "r", "a", []),
            ("r", True, "r", "", [Defect.UNCLOSED_THINK]),
            ("", True, "", "", [Defect.UNCLOSED_THINK]),
            ("<think>r</thin", False, "r</thin", "", [Defect.UNCLOSED_THINK]),
            ("<think>r</think>a", True, "r", "a", [Defect.REPEATED_THINK]),
            ("r<think>s</think>a", True, "rs", "a", [Defect.REPEATED_THINK]),
            ("r</think>a</think>b", True, "r", "ab", [Defect.STRAY_THINK_CLOSE]),
            ("a</think>b", False, "", "ab", [Defect.STRAY_THINK_CLOSE]),
            ("r</think>a <think>s</think>b", True, "rs", "a b", [Defect.REPEATED_THINK]),
            ("a<think>s</think>b", False, "s", "ab", [Defect.REPEATED_THINK]),
            ("r <TOOLCALL>[] </think>a", True, "r <TOOLCALL>[]", "a", []),
            ("a <TOOLC", False, "", "a <TOOLC", []),
            ("a <", False, "", "a <", []),
            ("a</TOOLCALL>b", False, "", "ab", [Defect.STRAY_TOOL_CALL_CLOSE]),
            ("a<TOOLCALL>[1", False, "", "a", [Defect.UNCLOSED_TOOL_CALL]),
            ("a<TOOLCALL>[]</TOOLCALL>b", False, "", "ab", [Defect.INVALID_TOOL_CALL]),
            ("<TOOLCALL>{}</TOOLCALL> b", False, "", "b", [Defect.INVALID_TOOL_CALL]),
            ("<THINK>a</THINK><toolcall>", False, "", "<THINK>a</THINK><toolcall>", []),
        ],
    )
    def test_tags(
        self, text: str, thinking: bool, reasoning: str, content: str, defects: list[Defect]
    ) -> None:
        message = parse(text, thinking=thinking)
        assert (message.reasoning, message.content) == (reasoning, content)
        assert [problem.defect for problem in message.problems] == defects
        assert message.well_formed == (not defects)

    def test_calls_between_texts_and_in_several_blocks(self) -> None:
        text = (
            'First.\n<TOOLCALL>[{"name": "f", "arguments": {"x": 1.50}}, {"name":"g","arguments":{}}]'
            "</TOOLCALL>\nThen.<TOOLCALL>\n"
            '[ { "arguments" : "{\\"y\\": \\"</TOOLCALL>\\"}" , "id":7, "name" : "h" } ]\n</TOOLCALL> '
        )
        message = parse(text)
        assert message.tool_calls == (
            ToolCall(0, "f", '{"x": 1.50}'),
            ToolCall(1, "g", "{}"),
            ToolCall(2, "h", '{"y": "</TOOLCALL>"}'),
        )
        assert (message.content, message.problems) == ("First.\n\nThen.", ())
        assert message.as_message()["tool_calls"][2]["function"] == {
            "name": "h",
            "arguments": '{"y": "</TOOLCALL>"}',
        }

    def test_a_broken_block_keeps_its_text_and_the_next_one_counts(self) -> None:
        tag_in_string = '{"a": "</TOOLCALL>"}'
        good = f'<TOOLCALL>[{{"name": "f", "arguments": {tag_in_string}}}]</TOOLCALL>'
        for raw in (
            "[oops]",
            '[{"name": "f}]\n',  # an open string: the end of the line shows it
            "[<b>]",
        ):
            message = parse(f"<TOOLCALL>{raw}</TOOLCALL>{good}after")
            assert message.tool_calls == (ToolCall(0, "f", tag_in_string),)
            assert message.content == "after"
            (problem,) = message.problems
            assert (problem.defect, problem.raw) == (Defect.INVALID_TOOL_CALL, raw)
            assert problem.detail
        for raw in ('[{"name": ', "[<b>"):
            reopened = parse(f"<TOOLCALL>{raw}{good}after")
            assert reopened.problems == (Malformed(Defect.UNCLOSED_TOOL_CALL, raw=raw),)
            assert reopened.tool_calls == (ToolCall(0, "f", tag_in_string),)
        assert parse('<TOOLCALL>["</TOOLCALL>').problems[0].raw == '["</TOOLCALL>'

    @pytest.mark.parametrize(
        ("block", "words"),
        [
            ("", r"\[ expected"),
            ("[]", "no call"),
            ("[1]", "{ expected"),
            ('{"name": "f", "arguments": {}}', r"\[ expected"),
            ('[{"name": "f"}]', "without arguments"),
            ('[{"arguments": {}}]', "without name"),
            ("[{}]", "without name and arguments"),
            ('[{"name": 3, "arguments": {}}]', "name is no printable text"),
            ('[{"name": "\\ud800", "arguments": {}}]', "name is no printable text"),
            ('[{"name": "f", "arguments": []}]', "arguments of f"),
            ('[{"name": "f", "arguments": null}]', "arguments of f"),
            ('[{"name": "f", "arguments": "[1]"}]', "arguments of f"),
            ('[{"name": "f", "arguments": "{} x"}]', "arguments of f"),
            ('[{"name": "f", "arguments": "{"}]', "."),
            ('[{"name": "f", "arguments": {"a": NaN}}]', "NaN"),
            ('[{"name": "f", "name": "g", "arguments": {}}]', "twice"),
            ('[{"name": "f", "arguments": {}},]', "."),
            ('[{"name": "f", "arguments": {}}] x', "after the list"),
            ('[{"name": "f" "arguments": {}}]', "delimiter"),
            ('[{"name": "f", "arguments": ' + '{"a":' * 100_000, "nested too deeply"),
            ('[{"name": "f", "arguments": {"a": ' + "9" * 5000 + "}}]", "."),
        ],
    )
    def test_blocks_that_are_no_calls(self, block: str, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            parse_block(block)

    def test_a_finished_message_takes_no_more(self) -> None:
        state, events = finish(start(thinking=True))
        assert events == (Malformed(Defect.UNCLOSED_THINK),)
        for use in (lambda: feed(state, "x"), lambda: finish(state)):
            with pytest.raises(ValueError, match="finished"):
                use()

    def test_deltas_come_in_order(self) -> None:
        call = '<TOOLCALL>[{"name": "f", "arguments": {}}]</TOOLCALL>'
        assert events_of([f"r</think>a{call}b"], True) == (
            ReasoningDelta("r"),
            ContentDelta("a"),
            ToolCall(0, "f", "{}"),
            ContentDelta("b"),
        )


@pytest.mark.parametrize("step", [1, 3, 100])
def test_without_tools_the_tags_of_calls_are_text(step: int) -> None:
    text = 'r</think>a <TOOLCALL>[{"name": "f", "arguments": {}}]</TOOLCALL> b'
    state = start(thinking=True, tools=False)
    found: list[Event] = []
    for at in range(0, len(text), step):
        state, events = feed(state, text[at : at + step])
        found += events
    _, events = finish(state)
    assert coalesce([*found, *events]) == (ReasoningDelta("r"), ContentDelta(text.partition("</think>")[2]))


class TestLinearTime:
    """Counted rather than timed: what is held back is short, and appending copies each character few times."""

    @pytest.mark.parametrize("unit", [*FRAGMENTS, "x", '<TOOLCALL>["', '<TOOLCALL>\\"</TOOLCALL>'])
    @pytest.mark.parametrize("opening", ["", '<TOOLCALL>["', "a"])
    def test_little_is_held_between_pieces(self, unit: str, opening: str) -> None:
        state = start(thinking=False)
        for character in opening + unit * 40:
            state, _ = feed(state, character)
            assert len(state.held) < len("</TOOLCALL>")

    def test_appending_copies_little(self) -> None:
        length, copied, rope = 1 << 14, 0, ()
        for _ in range(length):
            rope = append(rope, "x")
            copied += len(rope[-1])
        assert "".join(rope) == "x" * length
        assert copied <= length * 15  # the base-2 logarithm, and one
