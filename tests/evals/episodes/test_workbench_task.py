"""WorkBench by its short name: the held-out tasks, played and judged."""

from pathlib import Path

import pytest
from lm_eval.api.task import Task

from evals.evaluation import evaluate
from evals.lm import HybridEvalLM
from evals.loading import load_tasks
from evals.task_copies import RunSettings
from tests.evals.scripted import END, scripted_model


def test_held_out_tasks_are_asked(tokenizer_directory: Path, tmp_path: Path) -> None:
    """A model that does nothing is right where nothing may change, and only there."""
    (task,) = load_tasks(["nano2_workbench"])
    assert isinstance(task, Task)
    docs = task.eval_docs
    assert len(docs) == 82
    assert {doc["metadata"]["split"] for doc in docs} == {"dev"}
    idle = next(index for index, doc in enumerate(docs) if not doc["grader"]["calls"])
    changing = next(index for index, doc in enumerate(docs) if doc["grader"]["calls"])
    task._docs = [docs[idle], docs[changing]]
    model = scripted_model(tmp_path / "model", tokenizer_directory, {"</think>": "7", "7": END})
    lm = HybridEvalLM.from_artifact(model, chat=True, think_end="</think>", thinking=False, max_length=50_000)
    found = evaluate(lm, [task], settings=RunSettings(chat=True))
    values = found.results["results"]["nano2_workbench"]
    assert (values["acc,none"], values["score_format,none"], values["right,none"]) == (0.5, 1, 0.5)
    assert values["score_no_side_effects,none"] == pytest.approx(1)
    assert [sample["generations"][0]["turns"] for sample in found.samples["nano2_workbench"]] == [1, 1]
