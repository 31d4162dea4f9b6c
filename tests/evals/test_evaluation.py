"""Whole evaluations by lm-eval with models that say what the test wants: repeats, budgets, outcomes, chats."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval.utils import make_table

from evals.callbacks import Callbacks
from evals.evaluation import Evaluation, evaluate
from evals.generation_settings import THINKING_SAMPLING
from evals.lm import HybridEvalLM
from evals.loading import load_tasks
from evals.statistics import clustered_mean, pass_at_k
from evals.stored import samples_file, write_evaluation
from evals.task_copies import RunSettings
from model.errors import ArtifactError, UsageError
from tests.evals.scripted import END, Table, scripted_model
from tests.model.chat.builders import assistant, call, result, user

COIN: Table = {"\n": "a", "a": "</think>", "</think>": {"7": 0.5, "8": 0.5}, "7": END, "8": END}
"""Thinks one token, then says 7 or 8."""


@pytest.fixture(scope="module")
def model(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, Path] = {}

    def model(table: Table) -> Path:
        key = json.dumps(table)
        if key not in made:
            made[key] = scripted_model(
                tmp_path_factory.mktemp("models") / "model", tokenizer_directory, table
            )
        return made[key]

    return model


def lm(model: Path, **settings: Any) -> HybridEvalLM:
    reasoning = {"chat": True, "think_end": "</think>", "thinking_sampling": THINKING_SAMPLING}
    return HybridEvalLM.from_artifact(model, **{**reasoning, **settings})


def task_file(folder: Path, answers: list[str], **settings: Any) -> str:
    """A task whose questions are numbered and whose answers are given."""
    folder.mkdir(exist_ok=True)
    rows = [{"q": f"Question {number}", "a": answer} for number, answer in enumerate(answers)]
    (folder / "rows.json").write_text("\n".join(map(json.dumps, rows)))
    task = {
        "task": "mine",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.json")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}",
        "generation_kwargs": {"until": [], "max_gen_toks": 30},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        **settings,
    }
    path = folder / "mine.yaml"
    path.write_text(json.dumps(task))
    return str(path)


def run(lm: HybridEvalLM, tasks: list[str], **settings: Any) -> Evaluation:
    more = {name: settings.pop(name) for name in ("limit", "num_fewshot", "seed") if name in settings}
    return evaluate(lm, load_tasks(tasks), settings=RunSettings(chat=True, **settings), **more)


@pytest.fixture(scope="module")
def found(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Eight items, sixteen answers to each; the third is never answered rightly."""
    answers = ["7", "8", "9", "7", "8", "7", "7", "8"]
    return run(lm(model(COIN)), [task_file(tmp_path_factory.mktemp("task"), answers)], repeats=16)


class TestRepeats:
    def scores(self, found: Evaluation) -> list[list[float]]:
        return [[answer["score"] for answer in sample["generations"]] for sample in found.samples["mine"]]

    def test_each_item_is_answered_anew(self, found: Evaluation) -> None:
        texts = [[answer["text"] for answer in sample["generations"]] for sample in found.samples["mine"]]
        assert {text for of_item in texts for text in of_item} == {"a</think>7", "a</think>8"}
        assert all(len(set(of_item)) == 2 for of_item in texts)
        seeds = {answer["seed"] for sample in found.samples["mine"] for answer in sample["generations"]}
        assert len(seeds) == 8 * 16

    def test_means_and_errors_are_those_of_the_answers(self, found: Evaluation) -> None:
        expected = clustered_mean(self.scores(found))
        assert 0.3 < expected.mean < 0.6
        values = found.results["results"]["mine"]
        assert values["exact_match,none"] == pytest.approx(expected.mean)
        assert values["exact_match_stderr,none"] == pytest.approx(expected.stderr)
        (row,) = found.results["nano2"]["repeats"]
        assert (row["items"], row["answers"]) == (8, 16)
        assert row["within"] == pytest.approx(expected.within)
        assert row["between"] == pytest.approx(expected.between)

    def test_pass_at_k(self, found: Evaluation) -> None:
        values = found.results["results"]["mine"]
        for k in (1, 2, 4, 8, 16):
            expected = np.mean([pass_at_k(16, int(sum(of_item)), k) for of_item in self.scores(found)])
            assert values[f"pass@{k},none"] == pytest.approx(expected)
        assert values["pass@1,none"] == pytest.approx(values["right,none"])
        assert values["pass@16,none"] == 7 / 8

    def test_the_files_are_in_lm_evals_format(self, found: Evaluation, tmp_path: Path) -> None:
        write_evaluation(tmp_path, found, samples=True)
        results = json.loads((tmp_path / "results.json").read_text())
        table = make_table(results)
        assert "exact_match" in table
        assert "pass@16" in table
        (first, *_) = [json.loads(line) for line in (tmp_path / samples_file("mine")).open()]
        assert len(first["resps"][0]) == len(first["filtered_resps"][0]) == 16
        assert set(first["resps"][0]) == {"7", "8"}

    def test_greedy_answers_are_computed_once(self, model: Any, tmp_path: Path) -> None:
        bars: list[int] = []
        counted = Callbacks(progress=lambda title, total, unit: bars.append(total) or _Bar())
        greedy = lm(model(COIN), callbacks=counted)
        found = run(greedy, [task_file(tmp_path, ["7", "8"])], repeats=8, generation={"temperature": 0})
        assert bars == [2]
        (row,) = found.results["nano2"]["repeats"]
        assert row["within"] == 0

    def test_a_mean_that_makes_no_sense_is_refused(self, model: Any, tmp_path: Path) -> None:
        task = task_file(tmp_path, ["7"], metric_list=[{"metric": "bleu"}])
        with pytest.raises(UsageError, match="'bleu' is not a number for each answer"):
            run(lm(model(COIN)), [task], repeats=2)

    def test_a_task_with_repeats_of_its_own_keeps_them(self, model: Any, tmp_path: Path) -> None:
        vote = {"name": "vote", "filter": [{"function": "majority_vote"}, {"function": "take_first"}]}
        task = task_file(tmp_path, ["7", "8"], repeats=5, filter_list=[vote])
        found = run(lm(model(COIN)), [task])
        assert found.results["results"]["mine"]["exact_match,vote"] in (0, 0.5, 1)
        assert len(found.samples["mine"][0]["resps"][0]) == 5
        with pytest.raises(UsageError, match="asks for 5 answers"):
            run(lm(model(COIN)), [task], repeats=2)

    def test_a_filter_is_applied_to_each_answer(self, model: Any, tmp_path: Path) -> None:
        """Two filters, each with its own figures: as it is, and with every 7 made a 9."""
        digit = {"function": "regex", "regex_pattern": "(8)", "fallback": "9"}
        filters = [
            {"name": "as_is", "filter": [{"function": "take_first"}]},
            {"name": "nines", "filter": [digit, {"function": "take_first"}]},
        ]
        task = task_file(tmp_path, ["7", "8"], filter_list=filters)
        found = run(lm(model(COIN)), [task], repeats=6)
        eights = [sample["resps"][0].count("8") / 6 for sample in found.samples["mine"][:2]]
        values = found.results["results"]["mine"]
        assert values["exact_match,as_is"] == pytest.approx((1 - eights[0] + eights[1]) / 2)
        assert values["exact_match,nines"] == pytest.approx(eights[1] / 2)
        assert {row["task"] for row in found.results["nano2"]["repeats"]} == {"mine,as_is", "mine,nines"}


class _Bar:
    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, advance: int = 1) -> None:
        pass


class TestOutcomes:
    @pytest.mark.parametrize(
        ("table", "outcome", "exact_match"),
        [
            ({"\n": "a", "a": "</think>", "</think>": "7", "7": END}, "right", 1),
            ({"\n": "a", "a": "</think>", "</think>": "8", "8": END}, "wrong", 0),
            ({"\n": "a", "a": END}, "malformed", 0),
            ({"\n": "7", "7": {"7": 1e-9, "</think>": 1.0}, "</think>": "7"}, "unfinished", 0),
            ({"\n": "a"}, "unfinished", 0),
        ],
    )
    def test_each(self, model: Any, tmp_path: Path, table: Table, outcome: str, exact_match: float) -> None:
        found = run(lm(model(table)), [task_file(tmp_path, ["7", "7"])])
        values = found.results["results"]["mine"]
        shares = {name: values[f"{name},none"] for name in ("right", "wrong", "malformed", "unfinished")}
        assert shares == {name: float(name == outcome) for name in shares}
        assert values["exact_match,none"] == exact_match
        assert found.results["higher_is_better"]["mine"]["unfinished"] is False

    def test_format_and_correctness_are_told_apart(self, model: Any, tmp_path: Path) -> None:
        """The task's own metric sees a right answer, in spite of the second closing tag."""
        table: Table = {"\n": "a", "a": "</think>", "</think>": {"</think>": 0.5, "7": 0.5}, "7": END}
        found = run(lm(model(table)), [task_file(tmp_path, ["7"] * 20)])
        values = found.results["results"]["mine"]
        assert values["exact_match,none"] == 1
        assert 0 < values["malformed,none"] < 1
        assert values["right,none"] == pytest.approx(1 - values["malformed,none"])
        assert values["well_formed,none"] == values["right,none"]

    def test_without_a_chat_there_are_none(self, model: Any, tmp_path: Path) -> None:
        base = HybridEvalLM.from_artifact(model(COIN))
        found = evaluate(base, load_tasks([task_file(tmp_path, ["7"])]))
        assert "right,none" not in found.results["results"]["mine"]
        assert found.samples["mine"][0]["generations"][0]["finish_reason"] == "length"


TALKER: Table = {"\n": "7", "7": {"7": 0.9, END: 0.1}}
"""Thinks in sevens, and stops for good at every tenth of them."""


class TestBudgets:
    def test_rows_by_budget(self, model: Any, tmp_path: Path) -> None:
        tasks = load_tasks([task_file(tmp_path, ["7"] * 40), "nano2_piqa"])
        settings = RunSettings(chat=True, budgets=(0, 3, None), grace=0, generation={"temperature": 1.0})
        found = evaluate(lm(model(TALKER)), tasks, settings=settings, limit=40)
        assert list(found.samples) == ["mine@0", "mine@3", "mine", "nano2_piqa"]
        rows = {row["budget"]: row for row in found.results["nano2"]["budgets"]}
        assert list(rows) == [0, 3, None]
        assert rows[0]["thinking_tokens"] == 0
        assert rows[0]["well_formed"] == 1
        assert 2 < rows[3]["thinking_tokens"] <= 3
        assert rows[None]["thinking_tokens"] > 4
        assert rows[None]["well_formed"] == 0
        assert rows[None]["malformed"] + rows[None]["unfinished"] == 1
        forced = [sample["generations"][0]["forced"] for sample in found.samples["mine@3"]]
        assert any(forced)
        assert not all(forced)
        assert found.results["configs"]["mine@3"]["generation_kwargs"]["thinking_budget"] == 3
        assert "mine@3" in make_table(found.results)
        assert tasks[0].task_name == "mine"
        assert "thinking_budget" not in tasks[0].config.generation_kwargs, "the task itself was changed"

    def test_the_same_draws_at_each_budget(self, model: Any, tmp_path: Path) -> None:
        found = run(lm(model(TALKER)), [task_file(tmp_path, ["7"] * 5)], budgets=(4, 100), grace=0)
        seeds = [
            [sample["generations"][0]["seed"] for sample in found.samples[name]]
            for name in ("mine@4", "mine@100")
        ]
        assert seeds[0] == seeds[1]

    def test_groups_are_run_at_each_budget(self, model: Any, tmp_path: Path) -> None:
        task_file(tmp_path, ["7", "8"])
        group = {
            "group": "both",
            "task": ["mine"],
            "aggregate_metric_list": [{"metric": "exact_match", "weight_by_size": True}],
        }
        (tmp_path / "both.yaml").write_text(json.dumps(group))
        tasks = load_tasks(["both"], [tmp_path])
        settings = RunSettings(chat=True, budgets=(0, None))
        found = evaluate(lm(model(COIN)), tasks, settings=settings)
        assert set(found.results["groups"]) == {"both@0", "both"}
        assert found.results["group_subtasks"]["both@0"] == ["mine@0"]

    def test_nothing_to_think_about(self, model: Any) -> None:
        with pytest.raises(UsageError, match="none of the tasks generates"):
            run(lm(model(COIN)), ["nano2_piqa"], budgets=(0,))


class TestSampling:
    @pytest.mark.parametrize(
        ("task", "generation", "temperature"),
        [
            ({"until": [], "max_gen_toks": 9}, {}, 0.6),
            ({"until": [], "max_gen_toks": 9, "do_sample": False}, {}, 0.0),
            ({"until": [], "max_gen_toks": 9, "do_sample": False}, {"temperature": 0.8}, 0.8),
            ({"until": [], "max_gen_toks": 9, "temperature": 0.3}, {}, 0.3),
            ({"until": [], "max_gen_toks": 9}, {"temperature": 0}, 0.0),
            (None, {"max_gen_toks": 9}, 0.6),
        ],
    )
    def test_who_decides(
        self, model: Any, tmp_path: Path, task: Any, generation: Any, temperature: float
    ) -> None:
        """What is asked for goes before what the task says, and that before the report's settings."""
        file = task_file(tmp_path, ["7"], generation_kwargs=task)
        found = run(lm(model(COIN)), [file], generation=generation)
        (used,) = found.results["nano2"]["generation"]["mine"]
        assert used["temperature"] == temperature
        assert used["top_p"] == (0.95 if temperature == 0.6 else 1.0)
        assert used["thinking"] is True

    def test_without_thinking_it_is_greedy(self, model: Any, tmp_path: Path) -> None:
        found = run(lm(model(COIN), thinking=False), [task_file(tmp_path, ["7"])])
        (used,) = found.results["nano2"]["generation"]["mine"]
        assert (used["thinking"], used["temperature"]) == (False, 0.0)

    def test_answers_do_not_depend_on_what_is_asked_beside(self, model: Any, tmp_path: Path) -> None:
        task = task_file(tmp_path, ["7"] * 12)
        few = run(lm(model(COIN)), [task], limit=3).samples["mine"]
        many = run(lm(model(COIN)), ["nano2_svamp", task], limit=12, generation={"max_gen_toks": 9}).samples[
            "mine"
        ]
        again = run(lm(model(COIN)), [task], limit=3, generation={"max_gen_toks": 9}).samples["mine"]
        assert [sample["resps"] for sample in again] == [sample["resps"] for sample in many[:3]]
        assert len(few) == 3

    def test_scoring_inside_of_the_thinking_is_warned_of(self, model: Any) -> None:
        warnings: list[str] = []
        run(lm(model(COIN), callbacks=Callbacks(warn=warnings.append)), ["nano2_piqa"], limit=2)
        assert warnings == [
            "4 of 4 requests are scored inside of the thinking; --no-thinking closes it before"
        ]
        run(
            lm(model(COIN), callbacks=Callbacks(warn=warnings.append), thinking=False),
            ["nano2_piqa"],
            limit=2,
        )
        assert len(warnings) == 1


CALL = {"name": "tool_calls", "calls": [{"name": "clock", "arguments": {}}]}
WORDS = {"name": "tool_calls", "calls": []}
TOOL = {"type": "function", "function": {"name": "clock", "description": "Tells the time.", "parameters": {}}}


def chat_file(path: Path, *lines: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


class TestChats:
    def test_the_prompt_is_the_conversation_without_its_last_turn(self, model: Any, tmp_path: Path) -> None:
        history = [
            {"role": "system", "content": "Be brief."},
            user("What time is it?"),
            assistant("", reasoning_content="Ask.", tool_calls=[call("clock")]),
            result("12:00"),
        ]
        answer = assistant("It is noon, SECRET.", reasoning_content="SECRET")
        line = {"messages": [*history, answer], "tools": [TOOL], "grader": WORDS, "id": "a"}
        chat_lm = lm(model(COIN))
        found = run(chat_lm, [chat_file(tmp_path / "clock.jsonl", line)])
        (sample,) = found.samples["clock"]
        prompt = sample["arguments"][0][0]
        assert prompt == chat_lm.apply_chat_template(history, tools=[TOOL])
        assert "SECRET" not in prompt
        assert "<AVAILABLE_TOOLS>" in prompt
        assert "12:00" in prompt
        assert sample["target"] == "It is noon, SECRET."
        assert found.results["results"]["clock"]["acc,none"] == 1
        assert found.results["results"]["clock"]["score_format,none"] == 1

    @pytest.mark.parametrize(
        ("line", "setting", "opened"),
        [
            ({}, None, True),
            ({"thinking": False}, None, False),
            ({"thinking": True, "messages": [user("Hi /no_think")]}, None, True),
            ({"messages": [user("Hi /no_think")]}, None, False),
            ({"thinking": False}, True, True),
            ({"thinking": True}, False, False),
            ({"messages": [user("Hi"), assistant("Ho")]}, None, False),
            ({"messages": [user("Hi"), assistant("Ho", reasoning="Hm")]}, None, True),
            ({"messages": [user("Hi"), assistant("Ho", reasoning="Hm")]}, False, False),
            ({"messages": [user("Hi"), assistant("Ho")]}, True, True),
            ({"messages": [user("Hi"), assistant("Ho")], "thinking": True}, None, True),
            ({"messages": [user("Hi /think"), assistant("Ho")]}, None, True),
            ({"messages": [user("Hi"), assistant("Ho"), user("Hi")]}, None, True),
        ],
    )
    def test_who_turns_thinking_on(
        self, model: Any, tmp_path: Path, line: Any, setting: Any, opened: bool
    ) -> None:
        """The command, then the line, then the switch in a message, then the hidden turn, then the template."""
        path = chat_file(tmp_path / "chats.jsonl", {"messages": [user("Hi")], "grader": WORDS, **line})
        found = run(lm(model(COIN), thinking=setting), [path])
        prompt = found.samples["chats"][0]["arguments"][0][0]
        assert prompt.endswith("<think>\n" if opened else "<think></think>")

    def test_accuracy_counts_what_is_right_in_form_and_content(self, model: Any, tmp_path: Path) -> None:
        lines = [{"messages": [user(str(n))], "grader": WORDS if n < 3 else CALL} for n in range(4)]
        path = chat_file(tmp_path / "chats.jsonl", *lines)
        found = run(lm(model(COIN)), [path], repeats=3)
        values = found.results["results"]["chats"]
        assert (values["acc,none"], values["score,none"], values["wrong,none"]) == (0.75, 0.75, 0.25)
        cut = run(lm(model({"\n": "a", "a": "</think>", "</think>": "7"})), [path]).results["results"][
            "chats"
        ]
        assert (cut["acc,none"], cut["unfinished,none"]) == (0, 1)
        assert cut["score,none"] == 0.75, "the grader's score whatever the form"
        details = [
            answer["detail"] for answer in found.samples["chats"][3]["generations"] if "detail" in answer
        ]
        assert details

    def test_prompt_and_completion(self, model: Any, tmp_path: Path) -> None:
        said = {"prompt": [user("Hi")], "grader": WORDS}
        lines = [
            {**said, "completion": [assistant("8")]},
            {**said, "completion": [assistant("8", reasoning="7")]},
            {**said, "completion": [assistant(None, tool_calls=[call("clock")]), result("12"), assistant("8")]},
            {**said, "completion": [assistant(None, tool_calls=[call("clock")])]},
            {**said, "completion": [assistant("Ho"), user("He")]},
            {**said, "completion": []},
            said,
        ]  # fmt: skip
        called = '<think></think><TOOLCALL>[{"name": "clock", "arguments": {}}]</TOOLCALL>\n<SPECIAL_12>\n'
        opened = "<SPECIAL_11>Assistant\n"
        expected = [
            ("8", "<think></think>"),
            ("8", "<think>\n"),
            (
                "8",
                called
                + "<SPECIAL_11>User\n<TOOL_RESPONSE>[12]</TOOL_RESPONSE>\n"
                + opened
                + "<think></think>",
            ),
            (json.dumps([call("clock")]), "<think></think>"),
            ("", "Ho\n<SPECIAL_12>\n<SPECIAL_11>User\nHe\n" + opened + "<think>\n"),
            ("", "<think>\n"),
            ("", "<think>\n"),
        ]
        samples = run(lm(model(COIN)), [chat_file(tmp_path / "a.jsonl", *lines)]).samples["a"]
        begin = "<SPECIAL_10>System\n\n<SPECIAL_11>User\nHi\n" + opened
        assert [
            (sample["target"], sample["arguments"][0][0].removeprefix(begin)) for sample in samples
        ] == expected

    def test_a_document_is_its_line_as_it_stands(self, tmp_path: Path) -> None:
        """Evaluations are compared by what their documents are as JSON."""
        history = [
            {"content": [{"type": "text", "text": "Hi"}], "role": "user"},
            assistant(None, reasoning="Hm", tool_calls=[call("clock", {}, id="a")]),
            result({"hour": 12}, tool_call_id="a", name="clock"),
        ]
        line = {
            "id": 7,
            "grader": WORDS,
            "messages": [*history, assistant("Noon")],
            "metadata": {"a": [None]},
        }
        (task,) = load_tasks([chat_file(tmp_path / "a.jsonl", line)])
        (doc,) = task.test_docs()
        assert json.dumps(doc) == json.dumps(line)
        assert json.loads(task.doc_to_text(doc)) == history
        assert task.doc_to_target(doc) == "Noon"

    def test_without_a_chat_template_it_is_refused(self, model: Any, tmp_path: Path) -> None:
        path = chat_file(tmp_path / "chats.jsonl", {"messages": [user("Hi")], "grader": WORDS})
        with pytest.raises(UsageError, match="no chat template is applied") as caught:
            evaluate(HybridEvalLM.from_artifact(model(COIN)), load_tasks([path]))
        assert "--apply-chat-template" in caught.value.remedy

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ('{"messages": [', "not JSON"),
            ("[]", "is a JSON list, not an object"),
            ('{"messages": NaN}', "messages: should be a valid list, not nan"),
            ({"messages": [user("Hi")]}, "has no grader"),
            ({"messages": [], "grader": WORDS}, "messages: is empty"),
            ({"grader": WORDS}, "has no messages"),
            ({"messages": [assistant("x")], "grader": WORDS}, "has no message of a user"),
            (
                {"messages": [user("Hi"), assistant("x"), assistant("y")], "grader": WORDS},
                "has no message of a user",
            ),
            ({"prompt": [user("Hi"), assistant("x")], "grader": WORDS}, "has no message of a user"),
            ({"prompt": [], "completion": [assistant("x")], "grader": WORDS}, "has no message of a user"),
            (
                {"messages": [{"role": "system", "content": "Hi"}], "grader": WORDS},
                "has no message of a user",
            ),
            ({"messages": "Hi", "grader": WORDS}, "messages: should be a valid list, not 'Hi'"),
            ({"prompt": "Hi", "completion": "x", "grader": WORDS}, "is plain text, and no chat"),
            ({"prompt": "Hi", "grader": WORDS}, "completion: is missing"),
            ({"completion": [assistant("x")], "grader": WORDS}, "prompt: is missing"),
            ({"messages": ["Hi"], "grader": WORDS}, "messages[0]: should be a valid dictionary"),
            (
                {"messages": [{"role": "wizard", "content": "x"}, user("Hi")], "grader": WORDS},
                "messages[0].role: ",
            ),
            (
                {"messages": [user("Hi"), result("x")], "grader": WORDS},
                "messages[1].role: a tool result without",
            ),
            (
                {"messages": [user("Hi")], "grader": WORDS, "tools": {}},
                "tools: should be a valid list, not {}",
            ),
            (
                {"messages": [user("Hi")], "grader": WORDS, "thinking": "yes"},
                "thinking: should be a valid boolean",
            ),
            ({"messages": [user("Hi")], "grader": WORDS, "answer": 8}, "answer: is an unknown key"),
            ({"messages": [user("Hi")], "grader": {"name": "poetry"}}, "grader: unknown grader 'poetry'"),
            ({"messages": [user("Hi")], "grader": {"name": "tool_calls"}}, "grader 'tool_calls': "),
        ],
    )
    def test_a_bad_line_is_named(self, tmp_path: Path, line: Any, words: str) -> None:
        good = json.dumps({"messages": [user("Hi")], "grader": WORDS})
        text = line if isinstance(line, str) else json.dumps(line)
        path = tmp_path / "chats.jsonl"
        path.write_text(f"{good}\n\n{text}\n")
        with pytest.raises(ArtifactError) as caught:
            load_tasks([str(path)])
        assert words in caught.value.what
        assert caught.value.where == f"{path} line 3"

    @pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe{}", b"\x1f\x8b damaged"])
    def test_a_file_without_chats(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / ("chats.jsonl.gz" if content.startswith(b"\x1f") else "chats.jsonl")
        path.write_bytes(content)
        with pytest.raises(ArtifactError) as caught:
            load_tasks([str(path)])
        assert caught.value.where.removesuffix(" line 1") == str(path)

    def test_a_message_that_a_template_refuses_is_named_by_its_line(self, model: Any, tmp_path: Path) -> None:
        path = tmp_path / "chats.jsonl"
        lines = [{"messages": [user(text)], "grader": WORDS} for text in ("Hi", "Ho")]
        path.write_text("\n\n".join(map(json.dumps, lines)))
        particular = lm(model(COIN))
        particular.tokenizer.chat_template = (
            "{% if messages[0].content == 'Ho' %}{{ raise_exception('No Ho.') }}{% endif %}Hi"
        )
        with pytest.raises(ArtifactError, match=r"No Ho\.") as caught:
            run(particular, [str(path)])
        assert caught.value.where == f"{path} line 3"

    def test_files_of_one_name_are_told_apart_by_their_folders(self, model: Any, tmp_path: Path) -> None:
        line = {"messages": [user("Hi")], "grader": WORDS}
        places = ["test.jsonl", "a/test.jsonl", "x/a/test.chat.jsonl", "b/test.jsonl", "b/a_test.jsonl"]
        for folder in ("x/a", "a", "b"):
            (tmp_path / folder).mkdir(parents=True)
        paths = [chat_file(tmp_path / place, line) for place in places]
        found = run(lm(model(COIN)), paths)
        here = tmp_path.name
        assert list(found.samples) == [f"{here}/test", f"{here}/a/test", "x/a/test", "b/test", "a_test"]
        write_evaluation(tmp_path, found, samples=True)
        assert (
            len({samples_file(task) for task in found.samples}) == len(list(tmp_path.glob("samples_*"))) == 5
        )
        assert samples_file("a/test") not in (samples_file("a_test"), samples_file("a~test"))
        assert [task.task_name for task in load_tasks(paths[1:2])] == ["test"]

    def test_two_tasks_of_one_name_are_refused(self, tmp_path: Path) -> None:
        line = {"messages": [user("Hi")], "grader": WORDS}
        paths = [
            chat_file(tmp_path / name, line)
            for name in ("chats.jsonl", "chats.chat.jsonl", "nano2_piqa.jsonl")
        ]
        with pytest.raises(UsageError, match="two tasks have the name 'chats'"):
            load_tasks(paths[:2])
        with pytest.raises(UsageError, match="two tasks have the name 'nano2_piqa'"):
            load_tasks(["nano2_piqa", paths[2]])
        assert len(load_tasks([paths[0], paths[0]])) == 1
