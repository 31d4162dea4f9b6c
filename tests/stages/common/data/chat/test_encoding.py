"""Tokens and masks: the same ids in training, in the engine and in evaluation, and just the right ones trained."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.chat_lines import ChatSample, parse_sample
from evals.chat_tasks import read_chat_task
from evals.encoding import RequestEncoder
from evals.lm import HybridEvalLM
from model.chat import parsers
from model.chat.special_tokens import END_OF_TURN_ID
from model.chat.template import encode
from model.errors import ArtifactError
from stages.common.data.chat.encoding import (
    EncodedSample,
    Episodes,
    encode_sample,
    episodes_to_train,
    examine_sample,
)
from stages.common.data.chat.tokenizer import ChatTokenizer
from tests.model.chat import oracle
from tests.model.chat.builders import assistant, call, calls, result, user
from tests.model.miniatures import miniature, randomized
from tests.stages.common.data.chat.conversations import CONVERSATIONS, has_control_names


def sample_of(line: dict[str, Any]) -> ChatSample:
    return parse_sample(line, "a.jsonl line 1")


def trained_runs(encoded: EncodedSample) -> list[tuple[int, int]]:
    """(start, end) of each run of trained tokens."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], encoded.mask, [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def texts(
    tokenizer: ChatTokenizer, line: dict[str, Any], episodes: Episodes = "each"
) -> list[tuple[str, list[str]]]:
    """Of each document its text, and what is trained of it."""
    return [
        (
            tokenizer.chat.decode(encoded.ids),
            [tokenizer.chat.decode(encoded.ids[start:end]) for start, end in trained_runs(encoded)],
        )
        for encoded in encode_sample(tokenizer, sample_of(line), episodes)
    ]


@pytest.fixture(scope="module")
def evaluator(tokenizer: ChatTokenizer) -> HybridEvalLM:
    lm = randomized(miniature("M*", vocab_size=len(tokenizer.chat)))
    return HybridEvalLM(lm, tokenizer.chat, stop_ids=frozenset({END_OF_TURN_ID}), chat=True)


@pytest.mark.parametrize("number", range(len(CONVERSATIONS)))
def test_training_engine_and_eval_give_identical_ids(
    tokenizer: ChatTokenizer, evaluator: HybridEvalLM, number: int
) -> None:
    line = CONVERSATIONS[number]
    sample = sample_of(line)
    documents = encode_sample(tokenizer, sample)
    episodes = episodes_to_train(sample, "each")
    assert len(documents) == len(episodes)
    for encoded, episode in zip(documents, episodes, strict=True):
        messages = line["messages"][: len(episode.messages)]
        tools, thinking = line.get("tools"), episode.thinking.told
        runs = trained_runs(encoded)
        assert len(runs) == len(episode.trained)

        # the report's format, written a second time
        text, generations = oracle.render(messages, tools, thinking)
        assert tokenizer.chat.decode(encoded.ids) == text
        generations = generations[-len(runs) :]
        ids = encoded.ids.tolist()

        for index, (start, end), generation in zip(episode.trained, runs, generations, strict=True):
            prompt, _ = oracle.render(messages[:index], tools, thinking, add_generation_prompt=True)
            engine = encode(
                tokenizer.chat, messages[:index], tools=tools, thinking=thinking, add_generation_prompt=True
            )
            assert engine.ids == ids[:start]
            assert tokenizer.chat.decode(ids[:start]) == prompt
            assert tokenizer.chat.decode(ids[start:end]) == generation
            assert ids[end - 1] == END_OF_TURN_ID
            assert END_OF_TURN_ID not in ids[start : end - 1]
            if not has_control_names(line):
                asked = evaluator.apply_chat_template(messages[:index], tools=tools, thinking=thinking)
                assert evaluator.tok_encode(asked) == ids[:start]
                assert RequestEncoder(tokenizer.chat, chat=True).encode([text])[0] == ids


def unsaid(line: dict[str, Any]) -> dict[str, Any]:
    """The line without its `thinking`."""
    return {key: value for key, value in line.items() if key != "thinking"}


def completed(line: dict[str, Any], split: int) -> dict[str, Any]:
    """The line with its messages from `split` on as the completion."""
    messages = line["messages"]
    rest = {key: value for key, value in line.items() if key != "messages"}
    return {**rest, "prompt": messages[:split], "completion": messages[split:]}


WITHOUT_CONTROL_NAMES = [line for line in CONVERSATIONS if not has_control_names(line)]
LOOP = [user("a"), calls(call()), result("1"), calls(call()), result("2"), assistant("b")]
ASKED = {
    "the conversations": WITHOUT_CONTROL_NAMES,
    "without thinking": [unsaid(line) for line in WITHOUT_CONTROL_NAMES],
    "the last turn as completion": [completed(unsaid(line), -1) for line in WITHOUT_CONTROL_NAMES],
    "all but the beginning as completion": [
        completed(unsaid(line), min(2, len(line["messages"]) - 1)) for line in WITHOUT_CONTROL_NAMES
    ],
    "others": [
        {"messages": [user("a"), assistant("b")]},
        {"messages": [user("a"), assistant("b", reasoning="c")]},
        {"messages": [user("a"), assistant("<think>c</think>b")]},
        {"messages": [user("a"), assistant("b", reasoning=" \n")]},
        {"messages": [user("a"), assistant("b", reasoning="c"), user("d"), assistant("e")]},
        {"messages": [user("a"), assistant("b"), user("d"), assistant("e", reasoning="c")]},
        {"messages": [user("a /no_think"), assistant("b"), user("d"), assistant("e", reasoning="c")]},
        {"messages": [{"role": "system", "content": "/think"}, user("a"), assistant("b")]},
        {"messages": [user("/thinking a/no_think"), assistant("b")]},
        {"messages": [user("a"), calls(call("f", {"a": "/think"})), result("/think"), assistant("b")]},
        {"messages": LOOP},
        {"messages": [LOOP[0], {**LOOP[1], "reasoning": "c"}, *LOOP[2:]]},
        {"prompt": [LOOP[0], {**LOOP[1], "reasoning": "c"}, LOOP[2]], "completion": LOOP[3:]},
        {"prompt": LOOP[:1], "completion": [{**LOOP[1], "reasoning": "c"}, *LOOP[2:]]},
        {"messages": [*LOOP[:-1], assistant(None, tool_calls=[call()])], "tools": [{"name": "f"}]},
        {"messages": [assistant("a"), user([{"type": "text", "text": "b"}]), assistant("c")]},
    ],
}  # fmt: skip


@pytest.mark.parametrize("lines", ASKED.values(), ids=ASKED)
def test_evaluation_asks_for_the_last_turn_as_it_was_trained(
    tokenizer: ChatTokenizer, evaluator: HybridEvalLM, tmp_path: Path, lines: list[dict[str, Any]]
) -> None:
    path = tmp_path / "asked.jsonl"
    grader = {"name": "math", "answer": "1"}
    path.write_text("".join(json.dumps({**line, "grader": grader}) + "\n" for line in lines))
    task = read_chat_task(path)
    for line, doc in zip(lines, task.test_docs(), strict=True):
        [trained] = encode_sample(tokenizer, sample_of(line), "last")
        start, _ = trained_runs(trained)[-1]
        asked = task.fewshot_context(
            doc, 0, apply_chat_template=True, chat_template=evaluator.apply_chat_template
        )
        assert evaluator.tok_encode(asked) == trained.ids[:start].tolist(), line


def test_the_lines_that_are_asked_have_both_modes() -> None:
    for lines in ASKED.values():
        modes = {episodes_to_train(sample_of(line), "last")[0].thinking for line in lines}
        assert {mode.on for mode in modes} == {True, False}
        assert {mode.told is None for mode in modes} == {True, False}


def test_the_fifty_conversations_have_everything() -> None:
    lines = list(map(str, CONVERSATIONS))
    assert len(set(lines)) == 50
    for part in ("'system'", "/no_think", "/think", "'tools'", "'id': 'b'", "'reasoning'", "'thinking': False",
                 "世界", "<SPECIAL_12>", "'type': 'text', 'text'", "'content': {'sky'"):  # fmt: skip
        assert 3 <= sum(part in line for line in lines) < 50, part
    assert sum(has_control_names(line) for line in CONVERSATIONS) == 10


@pytest.mark.parametrize("number", range(0, len(CONVERSATIONS), 3))
def test_what_was_trained_is_parsed_back_to_the_message(tokenizer: ChatTokenizer, number: int) -> None:
    """What the model learns to write, the engine's parser reads as the message that was given."""
    line = CONVERSATIONS[number]
    if has_control_names(line):
        return  # a tag in an answer's text is a tag to a parser of text
    sample = sample_of(line)
    for (_, trained), episode in zip(texts(tokenizer, line), episodes_to_train(sample, "each"), strict=True):
        for index, generated in zip(episode.trained, trained, strict=True):
            parsed = parsers.parse(generated.removesuffix("<SPECIAL_12>"), thinking=episode.thinking.on)
            message = episode.messages[index]
            assert parsed.content.strip() == message.answer
            assert parsed.reasoning.strip() == (message.trace if episode.thinking.on else "")
            assert [item.name for item in parsed.tool_calls] == [
                item.function.name for item in message.tool_calls or ()
            ]


class TestEpisodes:
    LINE = {  # noqa: RUF012
        "messages": [
            user("1+1"),
            assistant("2", reasoning="One."),
            user("ping"),
            calls(call("f")),
            result("pong"),
            assistant("done"),
        ]
    }

    def test_each_is_trained_behind_the_prompt_that_serving_gives(self, tokenizer: ChatTokenizer) -> None:
        first, second = texts(tokenizer, self.LINE)
        assert first[0].endswith("1+1\n<SPECIAL_11>Assistant\n<think>\nOne.\n</think>\n\n2\n<SPECIAL_12>\n")
        assert first[1] == ["One.\n</think>\n\n2\n<SPECIAL_12>"]
        assert "<SPECIAL_11>Assistant\n2\n<SPECIAL_12>\n" in second[0]
        assert second[1] == [
            '<TOOLCALL>[{"name": "f", "arguments": {}}]</TOOLCALL>\n<SPECIAL_12>',
            "done\n<SPECIAL_12>",
        ]

    def test_the_last_alone(self, tokenizer: ChatTokenizer) -> None:
        assert texts(tokenizer, self.LINE, "last") == texts(tokenizer, self.LINE)[1:]

    def test_places_tell_the_episode(self, tokenizer: ChatTokenizer) -> None:
        places = [item.place for item in encode_sample(tokenizer, sample_of(self.LINE))]
        assert places == ["a.jsonl line 1 episode 1", "a.jsonl line 1 episode 2"]

    def test_questions_in_a_row_are_one_episode_to_train(self, tokenizer: ChatTokenizer) -> None:
        [(text, trained)] = texts(tokenizer, {"messages": [user("a"), user("b"), assistant("c")]})
        assert "User\na\n<SPECIAL_11>User\nb\n" in text
        assert trained == ["c\n<SPECIAL_12>"]

    def test_a_greeting_before_the_first_question(self, tokenizer: ChatTokenizer) -> None:
        system = {"role": "system", "content": "s"}
        line = {"messages": [system, assistant("Welcome"), user("a"), assistant("b")]}
        greeting, answer = texts(tokenizer, line)
        assert greeting[1] == ["Welcome\n<SPECIAL_12>"]
        assert answer[1] == ["b\n<SPECIAL_12>"]


class TestPromptAndCompletion:
    def test_only_the_completion_is_trained(self, tokenizer: ChatTokenizer) -> None:
        line = {
            "prompt": [user("a"), calls(call("f")), result("r")],
            "completion": [assistant("b"), user("c"), assistant("d")],
        }
        assert [trained for _, trained in texts(tokenizer, line)] == [
            ["b\n<SPECIAL_12>"],
            ["d\n<SPECIAL_12>"],
        ]

    def test_plain_text(self, tokenizer: ChatTokenizer) -> None:
        [encoded] = encode_sample(tokenizer, sample_of({"prompt": "the river ", "completion": "</s> bends"}))
        ids = encoded.ids.tolist()
        prompt = RequestEncoder(tokenizer.chat).encode(["the river "])[0]
        assert ids[: len(prompt)] == prompt
        assert ids[0] == tokenizer.text.begin_id
        assert ids.count(tokenizer.text.end_id) == 1  # the completion spells one; it is not one
        assert ids[-1] == tokenizer.text.end_id
        assert encoded.mask.tolist() == [0] * len(prompt) + [1] * (len(ids) - len(prompt))
        assert tokenizer.chat.decode(ids[1:-1]) == "the river </s> bends"


class TestThinking:
    @pytest.mark.parametrize(
        ("line", "prefill"),
        [
            ({"messages": [user("a"), assistant("b")]}, "<think></think>"),
            ({"messages": [user("a"), assistant("b", reasoning="")]}, "<think></think>"),
            ({"messages": [user("a"), assistant("b", reasoning="r")]}, "<think>\n"),
            ({"messages": [user("a"), assistant("<think>r</think>b")]}, "<think>\n"),
            ({"messages": [user("a /think"), assistant("b")]}, "<think>\n"),
            ({"messages": [user("a /no_think"), assistant("b", reasoning="r")]}, "<think></think>"),
            ({"messages": [user("a /thinking"), assistant("b")]}, "<think></think>"),
            ({"messages": [user("a"), assistant("b")], "thinking": True}, "<think>\n"),
            ({"messages": [user("/think a"), assistant("b", reasoning="r")], "thinking": False}, "<think></think>"),
            ({"messages": [user("a"), calls(call("f")), result(), assistant("b", reasoning="r")]}, "<think>\n"),
        ],
    )  # fmt: skip
    def test_is_on_where_the_line_a_switch_or_reasoning_says_so(
        self, tokenizer: ChatTokenizer, line: dict[str, Any], prefill: str
    ) -> None:
        [(text, _)] = texts(tokenizer, line)
        assert f"Assistant\n{prefill}" in text
        [episode] = episodes_to_train(sample_of(line), "each")
        assert episode.thinking.on is (prefill == "<think>\n")


def test_a_refused_sample_is_still_shown(tokenizer: ChatTokenizer) -> None:
    [examined] = examine_sample(tokenizer, sample_of({"messages": [user("a"), assistant(" ")]}))
    assert examined.problem is not None
    assert len(examined.sample.ids) == len(examined.sample.mask) > 10


def test_a_tokenizer_without_a_token_to_stop_at(tmp_path: Path, tokenizer_directory: Path) -> None:
    directory = tmp_path / "tokenizer"
    shutil.copytree(tokenizer_directory, directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        content = json.loads((directory / name).read_text().replace("<SPECIAL_12>", "<SPECIAL_99>"))
        content.pop("eos_token", None)
        (directory / name).write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="neither <SPECIAL_12> nor an eos_token"):
        ChatTokenizer.open(directory)
