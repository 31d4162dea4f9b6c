"""`nano2 compare` over real evaluations of models that say what the test wants."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from evals.statistics import PairedItems, paired_bootstrap, permutation_test
from evals.stored import read_evaluation
from model.errors import ArtifactError, UsageError
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageResult
from stages.compare.config import CompareConfig
from stages.compare.stage import STAGE
from tests.evals.scripted import END, Table, scripted_model
from tests.stages.eval.test_eval import run as evaluate

WORDS = {"name": "tool_calls", "calls": []}
CALL = {"name": "tool_calls", "calls": [{"name": "clock", "arguments": {}}]}

GOOD: Table = {"\n": "a", "a": "</think>", "</think>": {"7": 0.9, END: 0.1}, "7": END}
"""Answers in words nine times of ten, and not at all at the tenth."""

POOR: Table = {"\n": "a", "a": "</think>", "</think>": {"7": 0.3, END: 0.7}, "7": END}

SETTINGS: dict[str, Any] = {"apply_chat_template": True, "gen": {"max_gen_toks": 20, "temperature": 1.0}}


def chats(path: Path, numbers: "range | list[int]") -> Path:
    """Questions that want words, every tenth of them a call that neither model makes."""
    lines = [
        {
            "messages": [{"role": "user", "content": f"Question {n}"}],
            "grader": CALL if n % 10 == 9 else WORDS,
            "id": f"q{n}",
        }
        for n in numbers
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def folder(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluations `good`, `poor` and `again` (good with another seed) on 80 chats and 20 multiple choices."""
    folder: Path = tmp_path_factory.mktemp("compare")
    tasks = [str(chats(folder / "chats.jsonl", range(80))), "nano2_arc_easy"]
    for name, table in (("good", GOOD), ("poor", POOR)):
        scripted_model(folder / f"{name}-model", tokenizer_directory, table)
    for out, model, seed in (("good", "good", 0), ("poor", "poor", 0), ("again", "good", 1)):
        evaluate(folder / out, model=folder / f"{model}-model", tasks=tasks, limit=80, seed=seed, **SETTINGS)
    return folder


def compare(*paths: Path, reporter: QuietReporter | None = None, **settings: Any) -> StageResult:
    config = CompareConfig.model_validate({"evaluations": paths, "resamples": 2000, **settings})
    return run_stage(
        STAGE, config, out=None, reporter=reporter or QuietReporter(), command=["nano2", "compare"]
    ).result


def row_of(result: StageResult, task: str, compared: str | None = None) -> dict[str, Any]:
    (row,) = [row for row in result.rows if row["task"] == task and compared in (None, row["compared"])]
    return row


def accuracies(path: Path) -> dict[str, float]:
    return {sample["doc"]["id"]: sample["acc"] for sample in read_evaluation(path).samples["chats"]}


def test_figures_are_those_of_the_samples(folder: Path) -> None:
    result = compare(folder / "good", folder / "poor")
    row = row_of(result, "chats")
    good, poor = accuracies(folder / "good"), accuracies(folder / "poor")
    first, second = np.array(list(good.values())), np.array([poor[item] for item in good])
    items = PairedItems.of_values(first, second)
    assert (row["items"], row["metric"]) == (80, "acc")
    assert row["baseline"] == pytest.approx(first.mean())
    assert row["score"] == pytest.approx(second.mean())
    assert row["difference"] == pytest.approx(second.mean() - first.mean())
    assert (row["low"], row["high"]) == paired_bootstrap(items, resamples=2000)
    assert row["p"] == permutation_test(items, permutations=2000)
    assert row["low"] < row["difference"] < row["high"] < 0
    assert row["verdict"] == "worse"
    assert row_of(result, "nano2_arc_easy")["verdict"] == "not told apart"
    assert row["p_holm"] == pytest.approx(2 * row["p"])


def test_flipped_items_are_named_with_both_answers(folder: Path) -> None:
    reporter = QuietReporter()
    result = compare(folder / "good", folder / "poor", reporter=reporter, flips=3)
    good, poor = accuracies(folder / "good"), accuracies(folder / "poor")
    lost = [item for item in good if good[item] > poor[item]]
    gained = [item for item in good if good[item] < poor[item]]
    flips = [flip for flip in result.data["flips"] if flip["task"] == "chats"]
    assert [flip["item"] for flip in flips if flip["became"] == "wrong"] == lost
    assert [flip["item"] for flip in flips if flip["became"] == "right"] == gained
    row = row_of(result, "chats")
    assert (row["became_wrong"], row["became_right"]) == (len(lost), len(gained))
    assert {(flip["before"], flip["after"]) for flip in flips if flip["became"] == "wrong"} == {("7", "")}
    (shown,) = reporter.outputs
    assert shown.row_count <= 6


def test_the_other_way_round_it_is_better(folder: Path) -> None:
    there, back = (
        row_of(compare(*pair), "chats")
        for pair in ((folder / "good", folder / "poor"), (folder / "poor", folder / "good"))
    )
    assert back["verdict"] == "better"
    assert back["difference"] == -there["difference"]
    assert back["p"] == there["p"]


def test_several_are_compared_with_the_first(folder: Path) -> None:
    result = compare(folder / "good", folder / "poor", folder / "again")
    assert row_of(result, "chats", "poor")["verdict"] == "worse"
    assert row_of(result, "chats", "again")["verdict"] == "not told apart"
    p = sorted(row["p"] for row in result.rows)
    assert min(row["p_holm"] for row in result.rows) == pytest.approx(4 * p[0])


def test_items_are_paired_by_content_not_by_place(folder: Path, tmp_path: Path) -> None:
    shuffled = [int(n) for n in np.random.default_rng(1).permutation(80)]
    (tmp_path / "there").mkdir()
    path = chats(tmp_path / "there" / "chats.jsonl", shuffled)
    evaluate(tmp_path / "shuffled", model=folder / "good-model", tasks=[path], **SETTINGS)
    reporter = QuietReporter()
    result = compare(folder / "good", tmp_path / "shuffled", reporter=reporter)
    row = row_of(result, "chats")
    assert (row["items"], row["difference"], row["became_wrong"]) == (80, 0, 0)
    assert any("limit was 80 there and is None here" in warning for warning in reporter.warnings)
    assert not any("left out" in warning for warning in reporter.warnings)


def test_items_of_one_alone_are_left_out_and_said(folder: Path, tmp_path: Path) -> None:
    path = chats(tmp_path / "chats.jsonl", range(60, 100))
    evaluate(tmp_path / "other", model=folder / "good-model", tasks=[path], limit=80, **SETTINGS)
    reporter = QuietReporter()
    row = row_of(compare(folder / "good", tmp_path / "other", reporter=reporter), "chats")
    assert (row["items"], row["difference"]) == (20, 0)
    assert any(
        "60 items are in good alone and left out, the first of them q0" in text for text in reporter.warnings
    )
    assert any(
        "20 items are in other alone and left out, the first of them q80" in text
        for text in reporter.warnings
    )


def test_other_settings_and_prompts_are_said(folder: Path, tmp_path: Path) -> None:
    tasks = [str(folder / "chats.jsonl")]
    evaluate(tmp_path / "off", model=folder / "good-model", tasks=tasks, limit=80, thinking=False, **SETTINGS)
    reporter = QuietReporter()
    compare(folder / "good", tmp_path / "off", reporter=reporter)
    settings, prompts = reporter.warnings
    assert (
        settings == "settings differ ('there' is good, 'here' off): thinking was None there and is False here"
    )
    assert "80 of 80 items were asked in other words, the first of them q0" in prompts


def test_a_metric_of_ones_own_choice(folder: Path) -> None:
    result = compare(folder / "good", folder / "poor", metric="answer_tokens")
    (row,) = result.rows
    assert row["difference"] < 0
    assert row["became_wrong"] is None
    assert row["verdict"] == "lower", "neither way is better"
    with pytest.raises(UsageError, match="no task has the metric 'bleu'") as caught:
        compare(folder / "good", folder / "poor", metric="bleu")
    assert "answer_tokens" in caught.value.remedy


def test_perplexities_are_compared_as_the_task_scores_them(
    folder: Path, tmp_path: Path, tokenizer_directory: Path
) -> None:
    from tests.stages.eval.test_eval import copy_tokenizer, load_tokenizer, miniature, randomized, save

    for name in ("a", "b"):
        model = tmp_path / f"{name}-model"
        model.mkdir()
        copy_tokenizer(tokenizer_directory, model)
        save(randomized(miniature("M*", vocab_size=len(load_tokenizer(model))), seed=ord(name)), model)
        evaluate(tmp_path / name, model=model, tasks=["nano2_wikitext2", "nano2_lambada"], limit=4)
    result = compare(tmp_path / "a", tmp_path / "b")
    for task, metric in (("nano2_wikitext2", "word_perplexity"), ("nano2_lambada", "perplexity")):
        row = row_of(result, task)
        scores = [
            read_evaluation(tmp_path / name).results["results"][task][f"{metric},none"] for name in ("a", "b")
        ]
        assert [row["baseline"], row["score"]] == pytest.approx(scores)
        assert row["metric"] == metric
        assert row["became_right"] is None
    assert any("fewer than 20 items" in note for note in result.notes)


def test_the_report_stands_both_side_by_side(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"
    path.parent.mkdir()
    compare(folder / "good", folder / "poor", report=path)
    page = path.read_text()
    for words in (
        "Comparison, item by item",
        "Items that became right or wrong",
        "good: chats",
        "poor: chats",
    ):
        assert words in page
    with pytest.raises(UsageError, match="the report cannot be written"):
        compare(folder / "good", folder / "poor", report=tmp_path / "nowhere" / "report.html")


class TestRefusals:
    def test_the_same_twice(self, folder: Path) -> None:
        with pytest.raises(ValidationError, match="named twice"):
            compare(folder / "good", folder / "." / "good")

    def test_one_alone(self, folder: Path) -> None:
        with pytest.raises(ValidationError, match="at least 2"):
            compare(folder / "good")

    def test_no_evaluation(self, folder: Path) -> None:
        with pytest.raises(ArtifactError, match="is no artifact of nano2"):
            compare(folder / "good", folder / "good-model")
        with pytest.raises(ArtifactError, match="no such file"):
            compare(folder / "good", folder / "missing")

    def test_without_samples(self, folder: Path, tmp_path: Path) -> None:
        evaluate(tmp_path / "bare", model=folder / "good-model", tasks=["nano2_piqa"], limit=2, samples=False)
        with pytest.raises(ArtifactError, match="holds no samples"):
            compare(folder / "good", tmp_path / "bare")

    def test_nothing_in_common(self, folder: Path, tmp_path: Path) -> None:
        evaluate(tmp_path / "piqa", model=folder / "good-model", tasks=["nano2_piqa"], limit=2)
        with pytest.raises(
            ArtifactError, match="no task in common: good has chats, nano2_arc_easy, piqa has nano2_piqa"
        ):
            compare(folder / "good", tmp_path / "piqa")
        path = chats(tmp_path / "chats.jsonl", range(500, 505))
        evaluate(tmp_path / "others", model=folder / "good-model", tasks=[path], **SETTINGS)
        with pytest.raises(ArtifactError, match="no item of chats is in both"):
            compare(folder / "good", tmp_path / "others")

    @pytest.mark.parametrize("file", ["results.json", "samples_chats.jsonl"])
    @pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
    def test_damaged_files_are_named(self, folder: Path, tmp_path: Path, file: str, damage: str) -> None:
        copy = shutil.copytree(folder / "poor", tmp_path / "copy")
        path = copy / file
        if damage == "gone":
            path.unlink()
        elif damage == "cut":
            os.truncate(path, path.stat().st_size // 2)
        else:
            path.write_text(path.read_text().replace("0", "1"))
        with pytest.raises(ArtifactError) as caught:
            compare(folder / "good", copy)
        assert caught.value.where.startswith(str(path))


def test_comparing_loads_no_torch() -> None:
    code = "import sys, stages.compare.run; print(sorted({'torch', 'lm_eval', 'datasets', 'matplotlib'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        == "[]\n"
    )
