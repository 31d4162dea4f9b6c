"""The seeded steps: shares, what a share does to a sample, and that a sample's fate is its own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.chat_lines import ChatSample, parse_sample
from model.errors import ArtifactError
from stages.common.data.chat.decontamination import EvalWords
from stages.common.data.chat.encoding import EncodedSample, encode_sample
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.chat.transforms import (
    Concatenate,
    Decontaminate,
    StripTraces,
    TruncateTraces,
    first_tokens,
    reasoning_turns,
)
from tests.model.chat.builders import assistant, call, calls, result, user
from tests.stages.common.data.helpers import story


def reasoned(number: int, words: int = 60) -> ChatSample:
    line = {
        "messages": [
            user(f"Question {number}?"),
            assistant(f"Answer {number}.", reasoning=story(number, words)),
        ]
    }
    return parse_sample(line, f"a.jsonl line {number + 1}")


SAMPLES = [reasoned(number) for number in range(1000)]


def said(samples: list[ChatSample]) -> set[str]:
    return {sample.content_key for sample in samples}


class TestStripTraces:
    def strip(
        self, samples: list[ChatSample], share: float = 0.1, seed: int = 0
    ) -> tuple[list[ChatSample], StripTraces]:
        step = StripTraces(share, seed, "each")
        return [version for sample in samples for version in step(sample)], step

    def test_a_share_is_repeated_without_reasoning(self, tokenizer: ChatTokenizer) -> None:
        versions, step = self.strip(SAMPLES)
        copies = [version for version in versions if version.thinking is False]
        assert [version for version in versions if version.thinking is None] == SAMPLES
        assert 70 <= len(copies) <= 130
        assert step.describe() == [
            f"strip_traces: {len(copies)} of 1000 samples with reasoning repeated without it"
        ]
        number = copies[0].conversation[0].text.split()[1].rstrip("?")
        [encoded] = encode_sample(tokenizer, copies[0])
        assert tokenizer.chat.decode(encoded.ids).endswith(
            f"Question {number}?\n<SPECIAL_11>Assistant\n<think></think>Answer {number}.\n<SPECIAL_12>\n"
        )
        assert copies[0].place == f"a.jsonl line {int(number) + 1} (without its reasoning)"

    def test_none_and_all(self) -> None:
        versions, step = self.strip(SAMPLES[:50], 0.0)
        assert len(versions) == 50
        assert step.describe() == []
        assert len(self.strip(SAMPLES[:50], 1.0)[0]) == 100

    def test_a_switch_for_thinking_is_overridden_and_other_turns_stay(self, tokenizer: ChatTokenizer) -> None:
        line = {
            "prompt": [user("a /think"), calls(call("f")) | {"reasoning": "r"}, result("1")],
            "completion": [assistant("<think>s</think>b")],
            "tools": [{"name": "f"}],
        }
        [_, copy] = self.strip([parse_sample(line, "x")], 1.0)[0]
        [encoded] = encode_sample(tokenizer, copy)
        text = tokenizer.chat.decode(encoded.ids)
        assert "Assistant\n<think></think><TOOLCALL>" in text
        assert text.endswith("Assistant\n<think></think>b\n<SPECIAL_12>\n")

    def test_an_answer_that_speaks_of_tags_stays_whole(self, tokenizer: ChatTokenizer) -> None:
        line = {"messages": [user("a"), assistant("Write </think> so.", reasoning="r")]}
        [_, copy] = self.strip([parse_sample(line, "x")], 1.0)[0]
        [encoded] = encode_sample(tokenizer, copy)
        assert tokenizer.chat.decode(encoded.ids).endswith(
            "<think></think>Write </think> so.\n<SPECIAL_12>\n"
        )

    def test_samples_without_shown_reasoning_are_left_alone(self) -> None:
        plain = [
            parse_sample({"messages": [user("a"), assistant("b")]}, "x"),
            parse_sample({"messages": [user("a"), assistant("b", reasoning="r")], "thinking": False}, "x"),
            parse_sample({"messages": [user("a /no_think"), assistant("b", reasoning="r")]}, "x"),
            parse_sample({"prompt": "a", "completion": "b"}, "x"),
            parse_sample(
                {"prompt": [user("a"), assistant("b", reasoning="r")], "completion": [assistant("c")]}, "x"
            ),
        ]
        versions, step = self.strip(plain, 1.0)
        assert versions == plain
        assert step.reasoning == 0

    def test_only_the_last_episode_counts_where_it_alone_is_trained(self) -> None:
        line = {"messages": [user("a"), assistant("b", reasoning="r"), user("c"), assistant("d")]}
        sample = parse_sample(line, "x")
        assert reasoning_turns(sample, "each") == [1]
        assert reasoning_turns(sample, "last") == []


class TestTruncateTraces:
    def cut(
        self,
        tokenizer: ChatTokenizer,
        samples: list[ChatSample],
        shortest: int,
        longest: int,
        share: float = 1.0,
    ) -> tuple[list[ChatSample], TruncateTraces]:
        step = TruncateTraces(share, shortest, longest, 0, "each", tokenizer.text)
        return [step(sample) for sample in samples], step

    def test_reasoning_is_cut_to_the_range_and_the_answer_kept(self, tokenizer: ChatTokenizer) -> None:
        versions, step = self.cut(tokenizer, SAMPLES, 8, 32)
        lengths = []
        for before, after in zip(SAMPLES, versions, strict=True):
            trace = after.conversation[1].trace
            assert before.conversation[1].trace.startswith(trace)
            assert after.conversation[1].answer == before.conversation[1].answer
            assert after.conversation[0] == before.conversation[0]
            lengths.append(len(tokenizer.text.backend.encode(trace).ids))
        assert 7 <= min(lengths) <= 8
        assert 31 <= max(lengths) <= 32
        assert len(set(lengths)) >= 24  # drawn evenly, not at one length
        assert step.cut == step.drawn == step.reasoning == 1000

    def test_the_cut_is_abrupt_and_then_the_answer_follows(self, tokenizer: ChatTokenizer) -> None:
        [version] = self.cut(tokenizer, SAMPLES[:1], 5, 5)[0]
        [encoded] = encode_sample(tokenizer, version)
        trace = first_tokens(tokenizer.text, SAMPLES[0].conversation[1].trace, 5)
        assert tokenizer.chat.decode(encoded.ids).endswith(
            f"<think>\n{trace}\n</think>\n\nAnswer 0.\n<SPECIAL_12>\n"
        )
        assert version.place == "a.jsonl line 1 (reasoning cut)"

    def test_a_share_is_drawn_and_short_traces_are_counted(self, tokenizer: ChatTokenizer) -> None:
        short = [reasoned(number, words=2) for number in range(2000, 2500)]
        versions, step = self.cut(tokenizer, SAMPLES + short, 30, 40, share=0.2)
        assert step.reasoning == 1500
        assert 240 <= step.drawn <= 360
        assert step.cut == len(said(versions) - said(SAMPLES + short))
        assert 0 < step.cut < step.drawn
        assert step.describe() == [
            f"truncate_traces: {step.drawn} of 1500 samples with reasoning drawn; {step.cut} cut to 30-40 tokens, "
            f"{step.drawn - step.cut} no longer than that and left whole"
        ]

    def test_samples_without_reasoning_do_not_count(self, tokenizer: ChatTokenizer) -> None:
        plain = [parse_sample({"messages": [user("a"), assistant("b")]}, "x")]
        versions, step = self.cut(tokenizer, plain, 1, 1)
        assert versions == plain
        assert (step.reasoning, step.drawn) == (0, 0)
        versions, step = self.cut(tokenizer, SAMPLES[:5], 1, 1, share=0.0)
        assert versions == SAMPLES[:5]
        assert step.describe() == []

    def test_every_turn_with_reasoning_is_cut(self, tokenizer: ChatTokenizer) -> None:
        long = story(3, 100)
        line = {
            "messages": [
                user("a"), calls(call("f")) | {"reasoning": long}, result("1"), assistant("b", reasoning=long),
                user("c"), assistant("d", reasoning="short"),
            ]
        }  # fmt: skip
        [version] = self.cut(tokenizer, [parse_sample(line, "x")], 10, 60)[0]
        lengths = [
            len(tokenizer.text.backend.encode(version.conversation[index].trace).ids) for index in (1, 3, 5)
        ]
        assert 9 <= lengths[0] <= 60
        assert 9 <= lengths[1] <= 60
        assert lengths[0] != lengths[1]
        assert version.conversation[5].trace == "short"

    def test_no_character_is_cut(self, tokenizer: ChatTokenizer) -> None:
        text = "\U0001f600世界" * 10
        for count in range(1, 60):
            cut = first_tokens(tokenizer.text, text, count)
            assert text.startswith(cut)
            assert "\ufffd" not in cut


class TestOrderIndependence:
    """The same sample has the same fate whatever stands before it, and other seeds give other fates."""

    @pytest.mark.parametrize("step_name", ["strip", "truncate"])
    def test_subsets_and_orders(self, tokenizer: ChatTokenizer, step_name: str) -> None:
        def outcome(samples: list[ChatSample], seed: int = 0) -> dict[str, set[str]]:
            strip = StripTraces(0.3, seed, "each")
            truncate = TruncateTraces(0.3, 5, 30, seed, "each", tokenizer.text)
            found: dict[str, set[str]] = {}
            for sample in samples:
                versions = list(strip(sample)) if step_name == "strip" else [truncate(sample)]
                found[sample.conversation[0].text] = said(versions)
            return found

        whole = outcome(SAMPLES[:300])
        assert outcome(SAMPLES[:300][::-1]) == whole
        assert outcome(SAMPLES[100:200]) == {
            sample.conversation[0].text: whole[sample.conversation[0].text] for sample in SAMPLES[100:200]
        }
        assert outcome(SAMPLES[:300], seed=1) != whole

    def test_the_steps_draw_apart(self, tokenizer: ChatTokenizer) -> None:
        strip = StripTraces(0.5, 0, "each")
        truncate = TruncateTraces(0.5, 5, 30, 0, "each", tokenizer.text)
        both = sum(
            len(list(strip(sample))) == 2 and truncate(sample) is not sample for sample in SAMPLES[:400]
        )
        assert 60 <= both <= 140


class TestDecontamination:
    QUESTION = "How many barrels of salted fish does the old miller count before winter ends in the north"

    def words(self, tmp_path: Path, width: int = 13, *rows: Any) -> EvalWords:
        path = tmp_path / "eval.jsonl"
        path.write_text(
            "".join(json.dumps(row) + "\n" for row in rows or [{"id": 1, "deep": [{"q": self.QUESTION}]}])
        )
        return EvalWords([path], width)

    def sample(self, text: str, **fields: Any) -> ChatSample:
        return parse_sample({"messages": [user("x"), assistant(text, **fields)]}, "a.jsonl line 3")

    def test_a_shared_run_of_words_whatever_case_and_punctuation(self, tmp_path: Path) -> None:
        step = Decontaminate(self.words(tmp_path))
        shared = " ".join(self.QUESTION.upper().split()[2:15]).replace(" ", ", ")
        assert not step.keeps(self.sample(f"He said: {shared}!"))
        assert step.keeps(self.sample(" ".join(self.QUESTION.split()[2:14])))  # twelve
        assert step.keeps(self.sample(self.QUESTION.replace("does", "then does")))
        assert step.left_out == 1
        first, second = step.describe()  # and no more: no line was too short
        assert first == "decontaminate: 1 samples share 13 words in a row with evaluation data"
        assert f"for example a.jsonl line 3 and {tmp_path / 'eval.jsonl'} line 1" in second
        assert "barrels of salted fish does the old miller" in second

    @pytest.mark.parametrize(
        "line",
        [
            {"messages": [user(QUESTION), assistant("x")]},
            {"messages": [{"role": "system", "content": QUESTION}, user("a"), assistant("x")]},
            {"messages": [user("a"), assistant("x", reasoning=QUESTION)]},
            {"messages": [user("a"), assistant("x", reasoning_content=QUESTION)]},
            {"messages": [user("a"), calls(call("f")), result({"text": QUESTION}), assistant("x")]},
            {"prompt": QUESTION[:40], "completion": QUESTION[40:]},
            {"prompt": [user("a")], "completion": [assistant(QUESTION)]},
        ],
    )
    def test_every_text_is_looked_at(self, tmp_path: Path, line: dict[str, Any]) -> None:
        assert not Decontaminate(self.words(tmp_path)).keeps(parse_sample(line, "x"))

    def test_which_line_it_is(self, tmp_path: Path) -> None:
        words = self.words(tmp_path, 3, {"q": "one two three"}, {"q": "four five six seven"}, {"q": "no"})
        found = words.find(self.sample("so five six seven"))
        assert found is not None
        assert (found.words, found.place[-6:]) == ("five six seven", "line 2")
        assert words.too_short == 1
        assert Decontaminate(words).describe()[-1] == (
            "1 evaluation lines have no 3 words in a row and were not compared"
        )
        assert words.find(self.sample("two three four")) is None  # no run crosses a row

    def test_text_files_and_scripts_without_spaces(self, tmp_path: Path) -> None:
        (tmp_path / "eval.txt").write_text("我们今天去河边看古老的水车吧好吗")
        words = EvalWords([tmp_path / "eval.txt"], 8)
        assert words.find(self.sample("然后我们今天去河边看古老的树")) is not None
        assert words.find(self.sample("我们昨天去河边看新的水车")) is None

    def test_refusals(self, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match="has no 13 words in a row"):
            self.words(tmp_path, 13, {"q": "short"})
        (tmp_path / "eval.csv").write_text("x")
        with pytest.raises(ArtifactError, match="no evaluation data that can be read"):
            EvalWords([tmp_path / "eval.csv"], 13)
        with pytest.raises(ArtifactError, match="cannot be read"):
            EvalWords([tmp_path / "missing.jsonl"], 13)
        (tmp_path / "broken.jsonl").write_text("{")
        with pytest.raises(ArtifactError, match="line 1: not JSON"):
            EvalWords([tmp_path / "broken.jsonl"], 13)


def test_concatenation_joins_in_order_and_keeps_masks() -> None:
    def sample(number: int, length: int) -> EncodedSample:
        mask = np.zeros(length, np.int8)
        mask[-1] = 1
        return EncodedSample(np.full(length, number, np.int32), mask, f"line {number}")

    step = Concatenate(10)
    lengths = [4, 6, 3, 8, 12, 1]
    documents = [
        document for number, length in enumerate(lengths) for document in step(sample(number, length))
    ]
    documents += step.flush()
    assert [document.ids.tolist() for document in documents] == [
        [0] * 4 + [1] * 6, [2] * 3, [3] * 8, [4] * 12, [5],
    ]  # fmt: skip
    assert documents[0].mask.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 1]
    assert documents[0].place == "line 0 and 1 more"
    assert step.describe() == ["concatenate: 6 samples in 5 documents of up to 10 tokens"]
    assert list(step.flush()) == []
