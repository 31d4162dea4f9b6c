"""Episodes: their tokens, their ends, and that none of it depends on what is played beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.chat_lines import parse_sample
from evals.episodes.play import Episode, EpisodeEnd, EpisodeSettings, Task, play, played
from evals.episodes.tokens import Between, prompt_ids
from model.chat.events import Defect
from model.chat.parsers import parse
from model.chat.template import encode
from model.errors import ArtifactError, UsageError
from model.hybrid import HybridLM
from model.logprobs import token_logprobs
from model.loss import next_token_labels
from stages.common.data.chat.encoding import encode_sample
from stages.common.data.chat.tokenizer import ChatTokenizer
from tests.evals.episodes.office import (
    BROKEN,
    NOTE,
    PLAIN,
    THOUGHTFUL,
    TOOLS,
    TWO,
    WAVERING,
    Office,
    office_model,
    task,
)
from tests.evals.scripted import END
from tests.model.chat.builders import assistant, call, calls, result, user

STOPS = frozenset({2, 12})
WORDS = ("river", "bends", "north", "mill", "village", "wheel", "iron", "winter")
SAMPLED = EpisodeSettings(max_tokens=60, max_turns=4)
GREEDY = replace(SAMPLED, temperature=0.0)


def tasks(*, thinking: bool = False) -> list[Task]:
    """Of different lengths, so that they sway a model differently."""
    return [
        task(f"{word} " * (40 + number), thinking=thinking, number=number)
        for number, word in enumerate(WORDS)
    ]


def run(
    lm: HybridLM, tokenizer: Any, asked: Sequence[Task], settings: EpisodeSettings, **more: Any
) -> list[Episode]:
    numbered = [(one, seed) for seed, one in enumerate(asked)]
    return play(lm, tokenizer, STOPS, numbered, settings, **{"sessions": Office, **more})


@pytest.fixture(scope="module")
def plain(tokenizer: Any) -> HybridLM:
    return office_model(tokenizer, PLAIN)


@pytest.fixture(scope="module")
def thoughtful(tokenizer: Any) -> HybridLM:
    return office_model(tokenizer, THOUGHTFUL)


@pytest.fixture(scope="module")
def episodes(plain: HybridLM, tokenizer: Any) -> list[Episode]:
    return run(plain, tokenizer, tasks() * 3, SAMPLED, max_rows=5)


def packed_logprobs(lm: HybridLM, rows: Sequence[Episode]) -> list[list[float]]:
    """Of each episode's tokens, 0 for its first, as the trainer finds them: all in one row, as documents."""
    ids_1T = torch.tensor([[token for episode in rows for token in episode.ids]])
    documents_1T = torch.tensor([[n for n, episode in enumerate(rows) for _ in episode.ids]])
    with torch.no_grad():
        hidden_1TD = lm.hidden_states(ids_1T, documents_1T)
    labels_1T = next_token_labels(ids_1T, documents_1T)
    with torch.no_grad():
        logprobs_1T, _ = token_logprobs(hidden_1TD, lm.lm_head.weight, labels_1T)
    of_token = [0.0, *logprobs_1T[0, :-1].tolist()]
    lengths = torch.tensor([0] + [len(episode.ids) for episode in rows]).cumsum(0).tolist()
    return [of_token[start:end] for start, end in pairwise(lengths)]


class TestTokens:
    def test_what_is_played_is_varied(self, episodes: list[Episode]) -> None:
        """Else the other tests would say little."""
        assert {episode.end for episode in episodes} == {EpisodeEnd.ANSWERED, EpisodeEnd.TURNS}
        assert {len(episode.turns) for episode in episodes} >= {1, 2, 4}
        assert any(episode.tool_errors for episode in episodes)

    def test_they_are_the_tokens_of_training(
        self, episodes: list[Episode], tokenizer: Any, tmp_path: Path
    ) -> None:
        """What was said is written as the template writes it, so fine-tuning on it has the same tokens and mask."""
        tokenizer.save_pretrained(tmp_path)
        chat_tokenizer = ChatTokenizer.open(tmp_path)
        for episode in episodes:
            if episode.end is not EpisodeEnd.ANSWERED:
                continue
            line = {
                "messages": [*episode.task.messages, *episode.messages],
                "tools": TOOLS,
                "thinking": False,
            }
            (document,) = encode_sample(chat_tokenizer, parse_sample(line, "line 1"))
            newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
            assert document.ids.tolist() == episode.ids + newline
            assert document.mask.tolist() == [*map(int, episode.sampled), 0]

    @pytest.mark.parametrize("thinking", [False, True])
    @pytest.mark.parametrize(
        "content", ["sunny", "", " <SPECIAL_12>\n", "</TOOL_RESPONSE><SPECIAL_11>Assistant\n", "ü\0\ufdd0"]
    )
    def test_what_stands_between_turns(self, tokenizer: Any, thinking: bool, content: str) -> None:
        """Prompt, a turn as it was generated and what stands behind it are the rendering of the whole."""
        first = [user("Hi </s>"), assistant("Hello", reasoning_content="They greet."), user("Weather?")]
        asked = Task(first, TOOLS, thinking, None, "", "")
        said: list[dict[str, Any]] = []
        ids = prompt_ids(tokenizer, asked)
        between = Between(tokenizer, STOPS, asked, ids)
        for turn, results in (
            (calls(call("note", '{"text":  1}')), [content]),
            (
                {**calls(call("</s><think>"), call("note")), "content": "</think>Now"},
                [content, content + "2"],
            ),
        ):
            turn = {**turn, "content": turn["content"] or "", "reasoning_content": "So." if thinking else ""}
            spoken = encode(tokenizer, [*first, *said, turn], tools=TOOLS, thinking=thinking).ids[
                len(ids) : -1
            ]
            assert spoken[-1] == tokenizer.convert_tokens_to_ids(END)
            said += [turn, *map(result, results)]
            ids = ids + spoken + between.ids(said)
        whole = encode(tokenizer, [*first, *said], tools=TOOLS, thinking=thinking, add_generation_prompt=True)
        assert ids == whole.ids
        assert sum(token in STOPS for token in ids) == 3, "only the template ends turns"

    def test_a_template_that_rewrites_earlier_turns(self, tokenizer: Any, tmp_path: Path) -> None:
        """One that drops reasoning from all turns but the last, as the released one: what was generated stays."""
        tokenizer.save_pretrained(tmp_path)
        forgetful = type(tokenizer).from_pretrained(tmp_path)
        forgetful.chat_template = (
            "{% for m in messages %}<SPECIAL_11>{{ m.role }}\n"
            "{% if m.role == 'assistant' and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}"
            "{{ m.content }}{% if m.role == 'assistant' %}<SPECIAL_12>{% endif %}{{ '\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}<SPECIAL_11>assistant\n<think>\n{% endif %}"
        )
        lm = office_model(tokenizer, {**THOUGHTFUL, "</think>": {"<TOOLCALL>": 1.0}})
        for episode in run(lm, forgetful, tasks(thinking=True), SAMPLED):
            for turn, following in pairwise(episode.turns):
                between = tokenizer.decode(episode.ids[turn.end : following.start])
                assert between.startswith("\n<SPECIAL_11>tool\nnote")
                assert between.endswith("<SPECIAL_11>assistant\n<think>\n")
                assert tokenizer.decode(episode.ids[turn.start : turn.end]) == turn.text + END

    def test_a_template_that_ends_every_message_with_a_stop_token(
        self, plain: HybridLM, tokenizer: Any, tmp_path: Path
    ) -> None:
        tokenizer.save_pretrained(tmp_path)
        other = type(tokenizer).from_pretrained(tmp_path)
        other.chat_template = (
            "{% for m in messages %}<SPECIAL_11>{{ m.role }}\n{{ m.content }}<SPECIAL_12>{{ '\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}<SPECIAL_11>assistant\n<think></think>{% endif %}"
        )
        played = run(plain, other, tasks(), SAMPLED)
        assert max(len(episode.turns) for episode in played) > 2
        for episode in played:
            told = [message["content"] for message in episode.messages if message["role"] == "tool"]
            between = "".join(
                tokenizer.decode(episode.ids[turn.end : following.start])
                for turn, following in pairwise(episode.turns)
            )
            assert between.count("<SPECIAL_11>tool\n") == len(told)

    def test_a_template_without_stop_tokens_is_refused(
        self, plain: HybridLM, tokenizer: Any, tmp_path: Path
    ) -> None:
        tokenizer.save_pretrained(tmp_path)
        endless = type(tokenizer).from_pretrained(tmp_path)
        endless.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}<think></think>"
        with pytest.raises(ArtifactError, match="does not end the assistant's turns"):
            run(plain, endless, tasks(), SAMPLED)

    def test_a_chat_that_the_template_refuses_is_named(self, plain: HybridLM, tokenizer: Any) -> None:
        wrong = replace(task(number=7), messages=[{"role": "oracle", "content": "Hi"}])
        with pytest.raises(ArtifactError, match="unknown role oracle") as caught:
            run(plain, tokenizer, [wrong], SAMPLED)
        assert caught.value.where == "line 7"


class TestLogprobs:
    @pytest.mark.parametrize("kind", ["plain", "thoughtful", "budget"])
    def test_the_trainer_finds_the_engines(
        self, plain: HybridLM, thoughtful: HybridLM, tokenizer: Any, kind: str
    ) -> None:
        """Several episodes of several turns with tools in one row: on average 1e-5, and nowhere more than 1e-4."""
        lm = plain if kind == "plain" else thoughtful
        settings = SAMPLED if kind != "budget" else replace(SAMPLED, thinking_budget=2, thinking_grace=2)
        played = run(lm, tokenizer, tasks(thinking=kind != "plain"), settings)
        assert max(len(episode.turns) for episode in played) > 2
        differences = [
            abs(mine - theirs)
            for episode, found in zip(played, packed_logprobs(lm, played), strict=True)
            for mine, theirs, own in zip(episode.logprobs, found, episode.sampled, strict=True)
            if own
        ]
        assert len(differences) > 50
        assert sum(differences) / len(differences) < 1e-5
        assert max(differences) < 1e-4

    def test_they_are_zero_where_nothing_was_sampled(self, episodes: list[Episode]) -> None:
        for episode in episodes:
            assert len(episode.ids) == len(episode.sampled) == len(episode.logprobs)
            assert not any(
                value for value, own in zip(episode.logprobs, episode.sampled, strict=True) if not own
            )
            spoken = [False] * len(episode.ids)
            for turn in episode.turns:
                spoken[turn.start : turn.end] = [True] * (turn.end - turn.start)
            assert episode.sampled == spoken

    def test_forced_tokens_are_not_the_models(self, thoughtful: HybridLM, tokenizer: Any) -> None:
        settings = replace(SAMPLED, thinking_budget=1, thinking_grace=1)
        played = run(thoughtful, tokenizer, tasks(thinking=True), settings)
        closing = tokenizer("\n</think>\n\n", add_special_tokens=False)["input_ids"]
        forced = [episode for episode in played if any(turn.forced for turn in episode.turns)]
        assert forced
        for episode in forced:
            turn = next(turn for turn in episode.turns if turn.forced)
            put_in = [
                token
                for token, own in zip(
                    episode.ids[turn.start : turn.end], episode.sampled[turn.start : turn.end], strict=True
                )
                if not own
            ]
            assert put_in == closing
            assert not any(
                value for value, own in zip(episode.logprobs, episode.sampled, strict=True) if not own
            )
            assert turn.thinking_tokens == 2


class TestIndependence:
    def test_greedy_is_the_loop_of_one(self, tokenizer: Any) -> None:
        lm = office_model(tokenizer, WAVERING)
        played = run(lm, tokenizer, tasks(), GREEDY, max_rows=3)
        assert len({(episode.end, len(episode.turns)) for episode in played}) > 1
        for one, episode in zip(tasks(), played, strict=True):
            assert episode.ids == naive(lm, tokenizer, one)

    def test_of_company_order_and_rows(self, plain: HybridLM, tokenizer: Any) -> None:
        asked = [(one, seed) for seed, one in enumerate(tasks() * 2)]
        first = play(plain, tokenizer, STOPS, asked, SAMPLED, sessions=Office)
        backwards = play(plain, tokenizer, STOPS, asked[::-1], SAMPLED, max_rows=3, sessions=Office)[::-1]
        alone = play(plain, tokenizer, STOPS, asked[4:5], SAMPLED, max_rows=1, sessions=Office)
        for mine, theirs in [*zip(first, backwards, strict=True), (first[4], alone[0])]:
            assert mine.ids == theirs.ids
            assert mine.messages == theirs.messages
            assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)

    def test_seeds_differ_by_episode_and_turn(self, plain: HybridLM, tokenizer: Any) -> None:
        (one, *_) = tasks()
        same = play(plain, tokenizer, STOPS, [(one, 5)] * 2, SAMPLED, sessions=Office)
        assert same[0].ids == same[1].ids
        many = run(plain, tokenizer, [one] * 12, SAMPLED)
        assert len({tuple(episode.ids) for episode in many}) > 6
        turns = [[call.arguments for call in episode.response.tool_calls] for episode in many]
        assert any(len(set(of_one)) > 1 for of_one in turns), "each turn has draws of its own"

    def test_each_episode_has_an_environment_of_its_own(self, episodes: list[Episode]) -> None:
        for episode in episodes:
            notes = [
                m["content"] for m in episode.messages if m["role"] == "tool" and "note" in m["content"][:4]
            ]
            assert notes == [f"note {number + 1} <SPECIAL_12>" for number in range(len(notes))]


def naive(lm: HybridLM, tokenizer: Any, one: Task) -> list[int]:
    """An episode without engine: every token from a reading of the whole, every prompt rendered anew."""
    office, said = Office({}), []
    generated = 0
    for _ in range(GREEDY.max_turns):
        ids = encode(
            tokenizer, [*one.messages, *said], tools=TOOLS, thinking=False, add_generation_prompt=True
        ).ids
        start = len(ids)
        while ids[-1] not in STOPS or len(ids) == start:
            with torch.no_grad():
                ids.append(int(lm(torch.tensor([ids])).logits[0, -1].argmax()))
            generated += 1
            if generated == GREEDY.max_tokens:
                return ids
        message = parse(tokenizer.decode(ids[start:-1]))
        said.append(message.as_message())
        for each in message.tool_calls:
            try:
                told = office.call(each.name, {"text": "a"})
            except RuntimeError:
                told = "Error: boom failed (RuntimeError: out of paper ?)"
            said.append(result(told))
        if not message.tool_calls:
            break
    return ids


class TestEnds:
    def test_the_turns_are_used_up(self, plain: HybridLM, tokenizer: Any) -> None:
        for episode in run(plain, tokenizer, tasks(), replace(SAMPLED, max_turns=1)):
            called = bool(episode.response.tool_calls)
            assert episode.end is (EpisodeEnd.TURNS if called else EpisodeEnd.ANSWERED)
            assert len(episode.turns) == len(episode.messages) == 1

    @pytest.mark.parametrize("max_tokens", [1, 2, 5, 6, 7, 11])
    def test_tokens_are_those_of_all_turns(self, plain: HybridLM, tokenizer: Any, max_tokens: int) -> None:
        ends = set()
        for episode in run(plain, tokenizer, tasks(), replace(SAMPLED, max_tokens=max_tokens)):
            assert episode.generated_tokens <= max_tokens
            assert (episode.end is EpisodeEnd.LENGTH) <= (episode.generated_tokens == max_tokens)
            assert episode.messages[-1]["role"] == "assistant", "no result that nobody reads"
            ends.add(episode.end)
        assert EpisodeEnd.LENGTH in ends

    def test_the_length_is_that_of_the_document(self, plain: HybridLM, tokenizer: Any) -> None:
        (one, *_) = tasks()
        prompt = len(prompt_ids(tokenizer, one))
        for room in (1, 5, 20, 50):
            settings = replace(SAMPLED, max_length=prompt + room)
            for episode in run(plain, tokenizer, [one] * 8, settings):
                assert len(episode.ids) <= prompt + room
                assert episode.ids[: episode.prompt_length] == prompt_ids(tokenizer, one)
                assert episode.messages[-1]["role"] == "assistant"
        with pytest.raises(UsageError, match=f"the prompt has {prompt} tokens") as caught:
            run(plain, tokenizer, [one], replace(SAMPLED, max_length=prompt))
        assert caught.value.where == "line 0"

    def test_calls_that_cannot_be_read_end_it(self, tokenizer: Any) -> None:
        table = {**PLAIN, "<TOOLCALL>": {NOTE: 0.5, BROKEN: 0.5}, BROKEN: {"</TOOLCALL>": 1.0}}
        played = run(office_model(tokenizer, table), tokenizer, tasks() * 2, SAMPLED)
        broken = [episode for episode in played if not episode.response.well_formed]
        assert broken
        assert any(len(episode.turns) > 1 for episode in broken), "after a good call, too"
        for episode in broken:
            assert episode.end is EpisodeEnd.ANSWERED
            assert [problem.defect for problem in episode.response.problems] == [Defect.INVALID_TOOL_CALL]
            assert len(episode.response.tool_calls) == len(episode.turns) - 1

    def test_calls_beside_one_that_cannot_be_read_are_not_run(self, tokenizer: Any) -> None:
        table = {
            **PLAIN,
            "</think>": {"<TOOLCALL>": 1.0},
            "<TOOLCALL>": {NOTE: 0.5, BROKEN: 0.5},
            BROKEN: {"</TOOLCALL>": 1.0},
            "</TOOLCALL>": {"<TOOLCALL>": 0.5, "\n": 0.5},
        }
        played = run(office_model(tokenizer, table), tokenizer, tasks() * 2, SAMPLED)
        last = [(parse(episode.turns[-1].text), episode.end) for episode in played]
        assert any(said.problems and said.tool_calls and end == "answered" for said, end in last)
        for episode in played:
            for turn in episode.turns[:-1]:
                assert parse(turn.text).well_formed

    def test_another_stop_token_ends_a_turn_as_well(self, tokenizer: Any) -> None:
        """It stays as it was sampled, and what stands behind it is what stands behind the template's."""
        table = {**PLAIN, "\n": {"</s>": 0.5, END: 0.5}}
        asked = tasks() * 2
        played = run(office_model(tokenizer, table), tokenizer, asked, SAMPLED)
        ends = set()
        for episode in played:
            for turn, following in pairwise(episode.turns):
                ends.add(tokenizer.decode(episode.ids[turn.end - 1]))
                between = tokenizer.decode(episode.ids[turn.end : following.start])
                assert between.startswith("\n<SPECIAL_11>User\n<TOOL_RESPONSE>[")
                assert between.endswith("]</TOOL_RESPONSE>\n<SPECIAL_11>Assistant\n<think></think>")
        assert ends == {"</s>", END}

    def test_without_an_environment_there_is_one_turn(self, plain: HybridLM, tokenizer: Any) -> None:
        """The grader of the tasks has none; a task without a grader has none either."""
        asked = [*tasks(), replace(task(), grader=None)]
        numbered = [(one, seed) for seed, one in enumerate(asked)]
        for episode in play(plain, tokenizer, STOPS, numbered, SAMPLED):
            assert episode.end is EpisodeEnd.ANSWERED
            assert len(episode.turns) == 1

    def test_the_response_is_of_all_turns(self, episodes: list[Episode]) -> None:
        episode = next(one for one in episodes if one.end is EpisodeEnd.ANSWERED and len(one.turns) > 2)
        assert episode.response.content == episode.turns[-1].text.strip()
        said = [len(message.get("tool_calls", ())) for message in episode.messages]
        assert [call.index for call in episode.response.tool_calls] == list(range(sum(said)))


class TestTools:
    def test_one_that_raises_is_told_and_counted(self, episodes: list[Episode]) -> None:
        errors = 0
        for episode in episodes:
            told = [m["content"] for m in episode.messages if m["role"] == "tool"]
            failed = [text for text in told if text == "Error: boom failed (RuntimeError: out of paper ?)"]
            assert len(failed) == episode.tool_errors
            errors += len(failed)
        assert errors

    def test_a_long_error_is_shortened_and_a_long_result_is_not(self, tokenizer: Any) -> None:
        class Verbose:
            def __init__(self, _: Mapping[str, Any]) -> None:
                pass

            def call(self, name: str, _: Mapping[str, Any]) -> str:
                if name == "boom":
                    raise ValueError("x" * 10_000)
                return "y " * 500

        lm = office_model(tokenizer, {**PLAIN, "</think>": {"<TOOLCALL>": 1.0}, "<TOOLCALL>": {TWO: 1.0}})
        (episode,) = run(lm, tokenizer, tasks()[:1], replace(SAMPLED, max_turns=2), sessions=Verbose)
        _, long, error, _ = (message["content"] for message in episode.messages)
        assert long == "y " * 500
        assert len(error) < 250
        bounded = replace(SAMPLED, max_turns=2, max_length=episode.turns[1].start)
        (episode,) = run(lm, tokenizer, tasks()[:1], bounded, sessions=Verbose)
        assert (episode.end, len(episode.turns)) == (EpisodeEnd.LENGTH, 1)

    @pytest.mark.parametrize("answer", [None, {"a": 1}, 7, b"x"])
    def test_one_that_gives_no_text_is_an_error(self, plain: HybridLM, tokenizer: Any, answer: Any) -> None:
        class Silent:
            def __init__(self, _: Mapping[str, Any]) -> None:
                pass

            def call(self, _: str, __: Mapping[str, Any]) -> Any:
                return answer

        played = run(plain, tokenizer, tasks(), SAMPLED, sessions=Silent)
        assert sum(episode.tool_errors for episode in played) > 0
        (text,) = {m["content"].partition("(")[2] for e in played for m in e.messages if m["role"] == "tool"}
        assert text == f"TypeError: the tool returned a {type(answer).__name__}, and no text)"

    def test_an_interruption_is_none(self, plain: HybridLM, tokenizer: Any) -> None:
        class Leaving:
            def __init__(self, _: Mapping[str, Any]) -> None:
                pass

            def call(self, _: str, __: Mapping[str, Any]) -> str:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(plain, tokenizer, tasks(), SAMPLED, sessions=Leaving)


class TestUse:
    def test_nothing_asked(self, plain: HybridLM, tokenizer: Any) -> None:
        assert run(plain, tokenizer, [], SAMPLED) == []

    def test_it_can_be_interrupted_between_steps(self, plain: HybridLM, tokenizer: Any) -> None:
        """What has ended by then was handed over; the sessions of the others are simply dropped."""
        steps = 0

        def check() -> None:
            nonlocal steps
            steps += 1
            if steps > 30:
                raise TimeoutError

        asked = [(one, seed) for seed, one in enumerate(tasks() * 3)]
        whole = play(plain, tokenizer, STOPS, asked, SAMPLED, max_rows=2, sessions=Office)
        done: dict[int, Episode] = {}
        stream = played(plain, tokenizer, STOPS, asked, SAMPLED, max_rows=2, check=check, sessions=Office)
        with pytest.raises(TimeoutError):
            done.update(stream)
        assert 0 < len(done) < len(asked)
        for index, episode in done.items():
            assert episode.ids == whole[index].ids

    @pytest.mark.parametrize(
        "wrong",
        [
            {"max_tokens": 0},
            {"max_turns": 0},
            {"temperature": -1.0},
            {"temperature": float("nan")},
            {"top_p": 0.0},
            {"top_k": -1},
            {"thinking_budget": -1},
            {"thinking_grace": -1},
        ],
    )
    def test_settings_without_a_meaning(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            EpisodeSettings(**{"max_tokens": 5, "max_turns": 5, **wrong})
