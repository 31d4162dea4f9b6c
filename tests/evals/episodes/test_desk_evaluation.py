"""Evaluations of chat jsonl whose grader has an environment: each item is an episode, its tools run in that environment."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from lm_eval.utils import make_table

from evals.answers import OUTCOMES
from evals.callbacks import Callbacks
from evals.chat_lines import parse_sample
from evals.chat_tasks import read_chat_task
from evals.episodes.play import EpisodeSettings, Task, play
from evals.evaluation import Evaluation, evaluate
from evals.graders.grade import grade
from evals.lm import HybridEvalLM
from evals.loading import load_tasks
from evals.report import ReportPart, write_report
from evals.response_cache import ResponseCache
from evals.stored import samples_file, write_evaluation
from evals.task_copies import RunSettings
from model.errors import ArtifactError, InterruptedRunError, UsageError
from tests.evals.episodes.desk import ERRANDS, THOUGHTS, chat_file, desk_model, line
from tests.model.chat.builders import assistant, user

GEN = {"max_gen_toks": 40, "temperature": 1.0, "max_turns": 4}
WORDS = {"name": "tool_calls", "calls": []}


@pytest.fixture(scope="module")
def model(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return desk_model(tokenizer_directory, tmp_path_factory.mktemp("desk") / "plain", ERRANDS)


@pytest.fixture(scope="module")
def thinker(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return desk_model(tokenizer_directory, tmp_path_factory.mktemp("desk") / "thinker", THOUGHTS)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten errands."""
    each = [line(f"Move lunch to Tue, {number}", thinking=False) for number in range(10)]
    return chat_file(tmp_path_factory.mktemp("lines") / "errands.jsonl", *each)


def lm(model: Path, **settings: Any) -> HybridEvalLM:
    return HybridEvalLM.from_artifact(model, **{"chat": True, "think_end": "</think>", **settings})


def run(lm: HybridEvalLM, path: Path, **settings: Any) -> Evaluation:
    more = {"generation": GEN, "chat": True, **settings}
    return evaluate(lm, load_tasks([str(path)]), settings=RunSettings(**more))


@pytest.fixture(scope="module")
def found(model: Path, lines: Path) -> Evaluation:
    return run(lm(model), lines, repeats=6)


class TestAnswers:
    def test_each_is_an_episode(self, model: Path, lines: Path, found: Evaluation) -> None:
        """The very one that is played with its seed, and scored by its grader."""
        chat_lm = lm(model)
        settings = EpisodeSettings(max_tokens=40, max_turns=4, max_length=chat_lm.max_length)
        ends = Counter()
        for doc, sample in zip(read_chat_task(lines, "a").test_docs(), found.samples["errands"], strict=True):
            task = Task.of(parse_sample(doc, "line"))
            answers = sample["generations"]
            episodes = play(
                chat_lm.lm,
                chat_lm.tokenizer,
                chat_lm.stop_ids,
                [(task, answer["seed"]) for answer in answers],
                settings,
            )
            assert len({answer["seed"] for answer in answers}) == 6
            for episode, answer in zip(episodes, answers, strict=True):
                assert (answer["end"], answer["turns"]) == (episode.end, len(episode.turns))
                assert answer["calls"] == len(episode.response.tool_calls)
                assert answer["tool_errors"] == 0
                assert answer["answer_tokens"] == sum(turn.answer_tokens for turn in episode.turns)
                assert answer["detail"] == grade(doc["grader"], episode.response).detail
                right = grade(doc["grader"], episode.response).score == 1
                assert answer["score"] == float(right and episode.end == "answered")
                ends[episode.end, right] += 1
        assert len(ends) >= 4, "what is played should be varied"

    def test_what_the_model_saw_is_told(self, found: Evaluation) -> None:
        answers = [answer for sample in found.samples["errands"] for answer in sample["generations"]]
        texts = [answer["text"] for answer in answers if answer["turns"] > 1]
        assert texts
        for text in texts:
            assert "\n<SPECIAL_12>\n<SPECIAL_11>User\n<TOOL_RESPONSE>[" in text
            assert not text.endswith("<SPECIAL_12>")
        assert any("[e1 lunch Mon" in text for text in texts), "a tool's result"
        assert any("[e1 lunch Tue" in text for text in texts), "of an event that was moved before"

    def test_each_has_one_outcome(self, found: Evaluation) -> None:
        outcomes = Counter()
        for sample in found.samples["errands"]:
            assert sum(sample[name] for name in OUTCOMES) == pytest.approx(1)
            for answer in sample["generations"]:
                if answer["end"] != "answered":
                    outcome = "unfinished"
                    assert answer["finish_reason"] == "length"
                elif answer["problems"]:
                    outcome = "malformed"
                else:
                    outcome = "right" if answer["score"] == 1 else "wrong"
                outcomes[outcome] += 1
        assert set(outcomes) == set(OUTCOMES)
        values = found.results["results"]["errands"]
        for name in OUTCOMES:
            assert values[f"{name},none"] == pytest.approx(outcomes[name] / outcomes.total())
        assert values["acc,none"] == values["right,none"]
        assert values["score,none"] >= values["acc,none"]
        assert 0 < values["score_state,none"] < 1

    def test_question_and_reference(self, found: Evaluation) -> None:
        sample = found.samples["errands"][0]
        prompt = sample["arguments"][0][0]
        assert prompt.endswith("Move lunch to Tue, 0\n<SPECIAL_11>Assistant\n<think></think>")
        assert [each["function"]["name"] for each in json.loads(sample["target"])] == ["find", "move"]

    def test_files_and_report(self, found: Evaluation, tmp_path: Path) -> None:
        assert "errands" in make_table(found.results)
        write_evaluation(tmp_path, found, samples=True)
        stored = [json.loads(text) for text in (tmp_path / samples_file("errands")).read_text().splitlines()]
        assert len(stored[3]["generations"]) == 6
        (used,) = found.results["nano2"]["generation"]["errands"]
        assert (used["requests"], used["max_turns"], used["max_tokens"]) == (60, 4, 40)
        write_report(tmp_path / "report.html", [ReportPart("a", {}, found.results, found.samples)])
        assert "&lt;TOOL_RESPONSE&gt;" in (tmp_path / "report.html").read_text()

    def test_beside_answers_of_one_turn(self, model: Path, tmp_path: Path) -> None:
        """Items keep their order, and their answers, whatever else is asked."""
        plain = {"messages": [user("Hi")], "grader": WORDS, "thinking": False}
        errand = line(thinking=False)
        mixed = run(lm(model), chat_file(tmp_path / "a.jsonl", plain, errand, plain, errand))
        alone = run(lm(model, batch_rows=1), chat_file(tmp_path / "b.jsonl", errand))
        texts = [sample["generations"][0] for sample in mixed.samples["a"]]
        assert ["turns" in text for text in texts] == [False, True, False, True]
        assert texts[1] == alone.samples["b"][0]["generations"][0]

    def test_company_does_not_matter(self, model: Path, lines: Path, found: Evaluation) -> None:
        other = run(lm(model, batch_rows=3), lines, repeats=6)
        assert other.samples == found.samples


class TestThinking:
    def test_budgets(self, thinker: Path, tmp_path: Path) -> None:
        """Of each turn. Tokens that are put in are the model's neither in the count nor in the text."""
        path = chat_file(tmp_path / "a.jsonl", *[line(f"{n}", thinking=True) for n in range(6)])
        found = run(lm(thinker), path, budgets=(0, 1, None), grace=0)
        rows = {row["budget"]: row for row in found.results["nano2"]["budgets"]}
        assert set(rows) == {0, 1, None}
        assert rows[0]["thinking_tokens"] == 0
        turns = [sample["generations"][0]["turns"] for sample in found.samples["a@1"]]
        tokens = [sample["generations"][0]["thinking_tokens"] for sample in found.samples["a@1"]]
        assert all(few <= many for few, many in zip(tokens, turns, strict=True))
        assert max(turns) > 1
        assert rows[None]["thinking_tokens"] > rows[1]["thinking_tokens"]

    @pytest.mark.parametrize(("told", "text"), [(None, "<think>\n"), (False, "<think></think>")])
    def test_the_command_decides(self, thinker: Path, tmp_path: Path, told: Any, text: str) -> None:
        path = chat_file(tmp_path / "a.jsonl", line(thinking=True))
        (sample,) = run(lm(thinker, thinking=told), path).samples["a"]
        assert sample["arguments"][0][0].endswith(text)
        (answer,) = sample["generations"]
        assert (answer["thinking_tokens"] > 0) == (told is None)
        if answer["turns"] > 1:
            assert f"Assistant\n{text}" in answer["text"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("generation", "words"),
        [
            ({"max_turns": 0}, "max_turns of an episode is 0"),
            ({"max_turns": "many"}, "no number"),
            ({"until": ["x"]}, "an episode has no stop strings"),
            ({"max_gen_toks": 5000}, "asks for 5000 new tokens"),
        ],
    )
    def test_settings(self, model: Path, tmp_path: Path, generation: Any, words: str) -> None:
        path = chat_file(tmp_path / "a.jsonl", line(thinking=False))
        with pytest.raises(UsageError, match=words):
            run(lm(model), path, generation=generation)

    def test_turns_where_there_are_none(self, model: Path, tmp_path: Path) -> None:
        path = chat_file(tmp_path / "a.jsonl", {"messages": [user("Hi")], "grader": WORDS})
        with pytest.raises(UsageError, match="max_turns is for chats whose grader has an environment"):
            run(lm(model), path)

    def test_a_prompt_without_room(self, model: Path, tmp_path: Path) -> None:
        path = chat_file(tmp_path / "a.jsonl", line("so " * 200, thinking=False))
        with pytest.raises(UsageError, match=r"the prompt has \d+ tokens") as caught:
            run(lm(model, max_length=60), path)
        assert "a.jsonl line 1" in str(caught.value.where)

    @pytest.mark.parametrize(
        ("messages", "words"),
        [
            ([assistant("Hi")], "has no message of a user or a tool"),
            ([{"role": "system", "content": "Hi"}], "has no message of a user or a tool"),
        ],
    )
    def test_lines(self, tmp_path: Path, messages: Any, words: str) -> None:
        path = chat_file(tmp_path / "a.jsonl", line(messages=messages))
        with pytest.raises(ArtifactError, match=words):
            read_chat_task(path)


class TestInterruption:
    def test_what_has_ended_is_kept(
        self, model: Path, lines: Path, found: Evaluation, tmp_path: Path
    ) -> None:
        steps = 0

        def check() -> None:
            nonlocal steps
            steps += 1
            if steps % 40 == 0:
                raise InterruptedRunError("interrupted", where="here", remedy="go on")

        kept = [0]
        while True:
            with ResponseCache(tmp_path / "answers", print) as cache:
                chat_lm = lm(model, cache=cache, identity="a", callbacks=Callbacks(check=check), batch_rows=4)
                try:
                    again = run(chat_lm, lines, repeats=6)
                    break
                except InterruptedRunError:
                    kept.append(len(cache))
        assert len(kept) > 3
        assert kept == sorted(kept)
        assert kept[1] > 0
        assert again.samples == found.samples
        with ResponseCache(tmp_path / "answers", print) as cache:
            assert len(cache) == 60, "nothing was played twice"

    def test_what_decides_is_in_the_key(self, model: Path, tmp_path: Path) -> None:
        """Each change plays anew."""
        errand = line(thinking=False)
        state = {**errand["grader"], "state": {"events": [["e1", "lunch", "Wed"]]}}
        variants: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
            (errand, {}, {}),
            ({**errand, "grader": state}, {}, {}),
            (line("Go", thinking=False), {}, {}),
            (errand, {"max_turns": 3}, {}),
            (errand, {"max_gen_toks": 39}, {}),
            (errand, {"temperature": 0.9}, {}),
            (errand, {"temperature": 0}, {}),
            (line("Go", thinking=False), {"temperature": 0}, {}),
            (errand, {}, {"seed": 1}),
            (errand, {}, {"max_length": 4000}),
        ]
        with ResponseCache(tmp_path / "answers", print) as cache:
            for number, (each, generation, settings) in enumerate(variants, start=1):
                path = chat_file(tmp_path / "a.jsonl", each)
                run(lm(model, cache=cache, **settings), path, generation={**GEN, **generation})
                assert len(cache) == number
            run(lm(model, cache=cache), chat_file(tmp_path / "b.jsonl", errand))
            assert len(cache) == len(variants)

    def test_greedy_answers_are_played_once(self, model: Path, tmp_path: Path) -> None:
        path = chat_file(tmp_path / "a.jsonl", line(thinking=False))
        with ResponseCache(tmp_path / "answers", print) as cache:
            found = run(lm(model, cache=cache), path, repeats=4, generation={**GEN, "temperature": 0})
            assert len(cache) == 1
        first, *others = found.samples["a"][0]["generations"]
        assert others == [first] * 3
