"""`nano2 eval` through the harness: real tasks, a small random model."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evals.loading import load_tasks
from model.artifact.provenance import Provenance, write_provenance
from model.errors import ArtifactError, Nano2Error, UsageError
from model.loading import save
from model.tokenizer import copy_tokenizer, load_tokenizer
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageOutcome
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer
from stages.eval.config import EvalConfig
from stages.eval.stage import STAGE
from tests.model.miniatures import miniature, randomized

WORDS = {"name": "tool_calls", "calls": []}
"""The grader that is content with any words."""


@pytest.fixture(scope="module")
def artifact(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("models") / "base"
    directory.mkdir()
    copy_tokenizer(tokenizer_directory, directory)
    vocab = len(load_tokenizer(directory))
    save(randomized(miniature("M*-", vocab_size=vocab, max_position_embeddings=2048)), directory)
    return directory


def run(out: Path, reporter: QuietReporter | None = None, **settings: Any) -> StageOutcome:
    config = EvalConfig.model_validate(settings)
    return run_stage(
        STAGE,
        config,
        out=out,
        reporter=reporter or QuietReporter(),
        command=["nano2", "eval"],
        overwrite=True,
    )


def write_task(directory: Path, rows: str, **settings: Any) -> Path:
    """A task over local jsonl, as lm-eval's documentation writes one."""
    directory.mkdir(exist_ok=True)
    data = directory / "rows.jsonl"
    data.write_text(rows, encoding="utf-8")
    task = {
        "task": "mine",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": ["yes", "no"],
        "doc_to_target": "{{a}}",
        **settings,
    }
    (directory / "mine.yaml").write_text(json.dumps(task), encoding="utf-8")
    return directory


def test_results_samples_and_rows(artifact: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    outcome = run(
        out,
        model=artifact,
        tasks="nano2_arc_easy, nano2_wikitext2,nano2_svamp",
        limit=4,
        gen={"max_gen_toks": 8},
    )
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert set(results["results"]) == {"nano2_arc_easy", "nano2_wikitext2", "nano2_svamp"}
    assert results["n-samples"]["nano2_arc_easy"]["effective"] == 4
    rows = {(row["task"], row["metric"]): row for row in outcome.result.rows}
    accuracy = rows["nano2_arc_easy", "acc"]
    assert accuracy["value"] == results["results"]["nano2_arc_easy"]["acc,none"]
    assert accuracy["stderr"] == results["results"]["nano2_arc_easy"]["acc_stderr,none"]
    assert accuracy["n"] == 4
    assert rows["nano2_wikitext2", "bits_per_byte"]["stderr"] is None
    assert outcome.result.metrics["nano2_svamp/exact_match,last_number"] == 0
    samples = [json.loads(line) for line in (out / "samples_nano2_arc_easy.jsonl").open(encoding="utf-8")]
    assert [sample["doc_id"] for sample in samples] == [0, 1, 2, 3]
    assert all(sample["arguments"]["gen_args_0"]["arg_0"].startswith("Question:") for sample in samples)
    assert json.loads((out / "nano2.json").read_text())["kind"] == "eval"
    assert capfd.readouterr().out == ""


def test_the_same_command_makes_the_same_files(artifact: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "model": artifact,
        "tasks": ["nano2_piqa", "nano2_lambada"],
        "limit": 5,
        "num_fewshot": 2,
        "seed": 3,
    }
    made = [run(tmp_path / name, **settings) for name in ("a", "b")]
    hashes = {
        json.loads((outcome.out / "nano2.json").read_text())["content_hash"]
        for outcome in made
        if outcome.out
    }
    assert len(hashes) == 1
    assert run(tmp_path / "a", **settings).up_to_date


def test_a_chat_template_is_used(artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(
        out,
        model=artifact,
        tasks=["nano2_svamp"],
        limit=1,
        num_fewshot=1,
        apply_chat_template=True,
        thinking=False,
        gen={"max_gen_toks": 4},
    )
    (sample,) = [json.loads(line) for line in (out / "samples_nano2_svamp.jsonl").open(encoding="utf-8")]
    prompt = sample["arguments"]["gen_args_0"]["arg_0"]
    assert prompt.count("<SPECIAL_11>User") == 2
    assert prompt.endswith("<SPECIAL_11>Assistant\n<think></think>")


def test_tasks_of_the_users_own(artifact: Path, tmp_path: Path) -> None:
    include = write_task(tmp_path / "tasks", '{"q": "Is it?", "a": 0}\n{"q": "Was it?", "a": 1}\n')
    by_name = run(tmp_path / "a", model=artifact, tasks=["mine"], include=[include])
    by_path = run(tmp_path / "b", model=artifact, tasks=[str(include / "mine.yaml")])
    assert by_name.result.metrics == by_path.result.metrics
    assert by_name.result.rows[0]["n"] == 2


def test_groups_have_their_own_figure(artifact: Path, tmp_path: Path) -> None:
    include = write_task(tmp_path / "tasks", '{"q": "Is it?", "a": 0}\n{"q": "Was it?", "a": 1}\n')
    group = {"group": "both", "task": ["mine", "nano2_piqa"], "aggregate_metric_list": [{"metric": "acc"}]}
    (include / "both.yaml").write_text(json.dumps(group), encoding="utf-8")
    rows = run(tmp_path / "out", model=artifact, tasks=["both"], include=[include], limit=3).result.rows
    documents = {row["task"]: row["n"] for row in rows}
    assert documents == {"mine": 2, "nano2_piqa": 3, "both": 5}


@pytest.mark.parametrize("recorded", [True, False])
def test_a_tokenizer_that_is_not_the_models(artifact: Path, tmp_path: Path, recorded: bool) -> None:
    """A smaller one reads every text, and every figure would be nonsense."""
    model = tmp_path / "model"
    shutil.copytree(artifact, model)
    if not recorded:
        (model / "tokenizer.json").unlink()
    write_provenance(model, Provenance(kind="model", stage="pretrain"))
    corpus = iter(["some other text entirely"] * 9)
    save_tokenizer(train_tokenizer(corpus, 330), model)
    settings: dict[str, Any] = {"model": model, "tasks": ["nano2_piqa"], "limit": 1}
    if recorded:
        with pytest.raises(ArtifactError, match=r"model/tokenizer\.json: .* nano2.json records"):
            run(tmp_path / "out", **settings)
    else:  # put beside the weights afterwards, as the message on a missing one says
        run(tmp_path / "out", **settings)


def test_more_worked_examples_than_there_are(artifact: Path, tmp_path: Path) -> None:
    rows = '{"q": "Is it?", "a": 0}\n{"q": "Was it?", "a": 1}\n'
    include = write_task(tmp_path / "tasks", rows, fewshot_split="test")
    settings: dict[str, Any] = {"model": artifact, "tasks": ["mine"], "include": [include]}
    run(tmp_path / "one", **settings, num_fewshot=1)
    with pytest.raises(UsageError, match="2 worked examples are asked for, and there are 1") as caught:
        run(tmp_path / "two", **settings, num_fewshot=2)
    assert caught.value.where == "task mine"
    write_task(tmp_path / "tasks", rows, fewshot_split="test", num_fewshot=2)
    with pytest.raises(UsageError, match="2 worked examples"):
        run(tmp_path / "three", **settings)
    write_task(tmp_path / "tasks", rows, fewshot_config={"samples": [], "sampler": "first_n"}, num_fewshot=5)
    with pytest.raises(UsageError, match="5 worked examples are asked for, and there are 0"):
        run(tmp_path / "four", **settings)


@pytest.mark.parametrize(
    "change", [{"limit": 2**40}, {"seed": 2**32}, {"thinking": True}, {"thinking": False}]
)
def test_settings_that_have_no_meaning(artifact: Path, change: dict[str, Any]) -> None:
    EvalConfig.model_validate({"model": artifact, "tasks": ["nano2_piqa"]})
    with pytest.raises(ValidationError, match=next(iter(change))):
        EvalConfig.model_validate({"model": artifact, "tasks": ["nano2_piqa"], **change})


def test_repeats_of_what_is_not_generated(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none of the tasks generates"):
        run(tmp_path / "out", model=artifact, tasks=["nano2_piqa"], repeats=3, limit=1)


def test_a_fixed_number_of_examples_is_said(artifact: Path, tmp_path: Path) -> None:
    include = write_task(
        tmp_path / "tasks", '{"q": "Is it?", "a": 0}\n{"q": "Was it?", "a": 1}\n', num_fewshot=0
    )
    reporter = QuietReporter()
    run(tmp_path / "out", reporter, model=artifact, tasks=["mine"], include=[include], num_fewshot=1)
    assert reporter.warnings == ["mine fixes its number of worked examples: 0"]


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ('{"q": "Is it?", "a"\n', {}, "the task cannot be loaded"),
        ("", {}, "the task cannot be loaded"),
        (
            '{"q": "x", "a": 0}\n',
            {"dataset_kwargs": {"data_files": {"test": "/nowhere.jsonl"}}},
            "/nowhere.jsonl",
        ),
        ('{"q": "x", "a": 0}\n', {"output_type": "poetry"}, "the task cannot be loaded"),
        ('{"q": "x", "a": 0}\n', {"doc_to_text": "{{question}}"}, "'question' is undefined"),
        ('{"q": "x", "a": 0}\n', {"doc_to_text": "{{q"}, "unexpected end"),
    ],
)
def test_damaged_tasks(
    rows: str, settings: dict[str, Any], message: str, artifact: Path, tmp_path: Path
) -> None:
    include = write_task(tmp_path / "tasks", rows, **settings)
    with pytest.raises(ArtifactError) as caught:
        run(tmp_path / "out", model=artifact, tasks=["mine"], include=[include])
    assert message in caught.value.what
    assert caught.value.where == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"tasks"}


def test_a_yaml_that_cannot_be_read(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("task: [mine\n  x: {", encoding="utf-8")
    with pytest.raises(Nano2Error) as caught:
        run(tmp_path / "out", model=artifact, tasks=[str(tmp_path / "broken.yaml")])
    assert caught.value.exit_code in (2, 3)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("nano2_arc_esy", "did you mean 'nano2_arc_easy'?"), ("gsm8k", "did you mean 'nano2_gsm8k'?")],
)
def test_an_unknown_task_names_the_nearest(name: str, hint: str, artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        run(tmp_path / "out", model=artifact, tasks=[name])
    assert hint in caught.value.what
    assert "nano2_base" in caught.value.remedy


@pytest.mark.parametrize("name", ["nowhere/chats.jsonl", "chats.jsonl.gz", "mine.yaml"])
def test_a_task_file_that_is_not_there(name: str, artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file") as caught:
        run(tmp_path / "out", model=artifact, tasks=[name])
    assert caught.value.where == name


def test_a_tokenizer_larger_than_the_embedding(artifact: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    copy_tokenizer(artifact, model)
    save(randomized(miniature("M", vocab_size=100)), model)
    with pytest.raises(ArtifactError, match="the embedding 100"):
        run(tmp_path / "out", model=model, tasks=["nano2_piqa"], limit=1)


def test_a_model_without_tokenizer(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    save(randomized(miniature("M")), model)
    with pytest.raises(ArtifactError, match=r"no tokenizer\.json"):
        run(tmp_path / "out", model=model, tasks=["nano2_piqa"], limit=1)


def test_the_plan_lists_documents_and_memory(artifact: Path) -> None:
    config = EvalConfig.model_validate({"model": artifact, "tasks": ["nano2_piqa"], "limit": 7})
    plan = STAGE.call_plan(config)
    assert plan is not None
    assert plan.sections["Documents"] == {"nano2_piqa": 7}
    assert not plan.refusals


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"budgets": "0,64"}, "add --apply-chat-template"),
        ({"budgets": "0,64", "apply_chat_template": True, "thinking": False}, "add --apply-chat-template"),
        ({"budgets": "64,none,64", "apply_chat_template": True}, "named twice"),
        ({"budgets": "many", "apply_chat_template": True}, "many"),
        ({"budgets": "-1", "apply_chat_template": True}, "greater than or equal to 0"),
        ({"repeats": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], words: str, artifact: Path) -> None:
    with pytest.raises(ValidationError, match=words):
        EvalConfig.model_validate({"model": artifact, "tasks": ["nano2_svamp"], **settings})


def test_budgets_are_read_as_flags_and_recipes_give_them(artifact: Path) -> None:
    fixed = {"model": artifact, "tasks": ["nano2_svamp"], "apply_chat_template": True}
    for value in ("0,1k,none", ["0,1k", "none"], [0, "1k", None], [0, 1000, "none"]):
        assert EvalConfig.model_validate({**fixed, "budgets": value}).budgets == (0, 1000, None)
    assert EvalConfig.model_validate({**fixed, "budgets": 64}).budgets == (64,)


def test_ruler_settings_without_a_ruler_task(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ruler_lengths is given, and no RULER task"):
        run(tmp_path / "out", model=artifact, tasks=["nano2_piqa"], ruler_lengths="512")


def test_ruler_by_length_and_depth(artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    task = "nano2_ruler_niah_single_1"
    run(
        out,
        model=artifact,
        tasks=[task],
        ruler_lengths="400,500",
        ruler_samples=4,
        ruler_depths=[0.1, 0.9],
        apply_chat_template=True,
        thinking=False,
        gen={"max_gen_toks": 4},
    )
    results = json.loads((out / "results.json").read_text())
    table = results["nano2"]["ruler"]
    assert [(row["length"], row["n"]) for row in table if row["depth"] is None] == [(400, 4), (500, 4)]
    assert {row["depth"] for row in table if row["depth"]} == {"0-20%", "80-100%"}
    assert "tokenizer" not in results["configs"][task]["metadata"], "where the model lies changes no result"
    assert "RULER" in (out / "report.html").read_text()
    assert run(out, model=artifact, tasks=[task], ruler_lengths="400,500", ruler_samples=4, ruler_depths=[0.1, 0.9],
               apply_chat_template=True, thinking=False, gen={"max_gen_toks": 4}).up_to_date  # fmt: skip


def test_tasks_are_read_once(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []

    def counted(*arguments: Any) -> Any:
        read.append(arguments)
        return load_tasks(*arguments)

    monkeypatch.setattr("stages.common.evaluation.tasks.load_tasks", counted)
    run(tmp_path / "a", model=artifact, tasks=["nano2_piqa"], limit=2)
    assert len(read) == 1
    run(tmp_path / "a", model=artifact, tasks=["nano2_piqa"], limit=3)
    assert len(read) == 2


class TestTaskFiles:
    """A task that is a file is an input: its content is hashed, and a changed one is evaluated again."""

    def chats(self, path: Path, *words: str) -> Path:
        lines = [{"messages": [{"role": "user", "content": word}], "grader": WORDS} for word in words]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    def test_content_decides(self, artifact: Path, tmp_path: Path) -> None:
        settings: dict[str, Any] = {
            "model": artifact,
            "apply_chat_template": True,
            "gen": {"max_gen_toks": 3},
        }
        path = self.chats(tmp_path / "mine.jsonl", "Hi", "Ho")
        first = run(tmp_path / "out", tasks=[path], **settings)
        assert "mine/acc" in first.result.metrics
        recorded = json.loads((tmp_path / "out" / "nano2.json").read_text())
        assert [parent["path"] for parent in recorded["data"]] == ["mine.jsonl"]
        (tmp_path / "moved").mkdir()
        path.rename(tmp_path / "moved" / "mine.jsonl")
        assert run(tmp_path / "out", tasks=[tmp_path / "moved" / "mine.jsonl"], **settings).up_to_date
        hashes = {
            json.loads((tmp_path / out / "nano2.json").read_text())["content_hash"]
            for out in ("out", "anew")
            if run(tmp_path / out, tasks=[tmp_path / "moved" / "mine.jsonl"], **settings)
        }
        assert len(hashes) == 1  # a replay finds its tasks elsewhere
        self.chats(tmp_path / "moved" / "mine.jsonl", "Hi", "Hu")
        assert not run(tmp_path / "out", tasks=[tmp_path / "moved" / "mine.jsonl"], **settings).up_to_date


class Tags(HTMLParser):
    """The tags of a page, and what stands in them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


class TestReport:
    def test_stands_alone_and_escapes(self, artifact: Path, tmp_path: Path) -> None:
        evil = "<script>alert('x')</script><img src=http://evil.example/x>"
        line = {"messages": [{"role": "user", "content": evil}], "grader": WORDS}
        (tmp_path / "evil.jsonl").write_text(json.dumps(line))
        settings: dict[str, Any] = {
            "model": artifact,
            "tasks": [str(tmp_path / "evil.jsonl"), "nano2_piqa", "nano2_svamp"],
            "limit": 3,
            "repeats": 2,
            "apply_chat_template": True,
            "budgets": "0,2",
            "thinking_grace": 0,
            "gen": {"max_gen_toks": 12},
        }
        run(tmp_path / "a", **settings)
        page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
        assert evil not in page
        assert "&lt;script&gt;alert" in page
        seen = Tags()
        seen.feed(page)
        assert not seen.names & {"script", "img", "link", "iframe", "object", "embed", "image"}
        assert all(
            value.startswith("#") for name, value in seen.attributes if name in ("src", "href", "xlink:href")
        )
        assert not re.search(r"@import|url\((?!#)", page)
        assert page.count("<svg") == 4  # scores, outcomes, budgets, pass@k
        for heading in (
            "Scores",
            "What became of the answers",
            "Thinking budgets",
            "Repeated answers",
            "Settings",
        ):
            assert f"<h2>{heading}</h2>" in page
        run(tmp_path / "b", **settings)
        assert (tmp_path / "b" / "report.html").read_bytes() == (tmp_path / "a" / "report.html").read_bytes()

    def test_without_samples_it_shows_none(self, artifact: Path, tmp_path: Path) -> None:
        run(
            tmp_path / "out",
            model=artifact,
            tasks=["nano2_svamp"],
            limit=1,
            samples=False,
            gen={"max_gen_toks": 3},
        )
        assert "Some answers" not in (tmp_path / "out" / "report.html").read_text()
        assert not list((tmp_path / "out").glob("samples_*"))
