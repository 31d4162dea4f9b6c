"""lm-eval's `local-completions` through a server, against the LM class in this process: the same scores and answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from evals.lm import HybridEvalLM
from tests.stages.conftest import model, tokenizer_directory
from tests.stages.serve.running import Running, running

pytest.importorskip("tenacity", reason="lm-eval's clients of APIs need it")
from lm_eval.models.openai_completions import LocalCompletionsAPI

__all__ = ["model", "tokenizer_directory"]

LENGTH = 128

CHOICE = """
task: toy_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
doc_to_choice: "{{{{choices}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
ANSWER = """
task: toy_answer
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n", " the"], max_gen_toks: 24, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> TaskManager:
    folder = tmp_path_factory.mktemp("tasks")
    questions = ["Once upon a", "The girl went to", "A", "1, 2, 3, ", "語 and", "x " * 70]
    lines = [
        {"question": text, "choices": [" time", " house and a tree", " 4"], "answer": number % 3}
        for number, text in enumerate(questions)
    ]
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, text in (("choice", CHOICE), ("answer", ANSWER)):
        (folder / f"{name}.yaml").write_text(text.format(data=data))
    return TaskManager(include_path=str(folder), include_defaults=False)


@pytest.fixture(scope="module")
def serving(model: Path) -> Iterator[Running]:
    with running(model, name="tiny", max_length=LENGTH) as server:
        yield server


def results(lm: Any, tasks: TaskManager) -> Any:
    return simple_evaluate(
        model=lm, tasks=["toy_choice", "toy_answer"], task_manager=tasks, bootstrap_iters=0, log_samples=True
    )


@pytest.mark.parametrize("concurrent", [1, 4])
def test_scores_and_answers_agree(serving: Running, model: Path, tasks: TaskManager, concurrent: int) -> None:
    peer = LocalCompletionsAPI(
        base_url=f"{serving.url}/v1/completions", model="tiny", tokenizer=str(model), max_length=LENGTH, add_bos_token=True,
        num_concurrent=concurrent, max_retries=1,
    )  # fmt: skip
    ours = HybridEvalLM.from_artifact(model, max_length=LENGTH - 2)
    expected, found = results(ours, tasks), results(peer, tasks)
    assert found["results"] == {
        task: {
            **values,
            **{key: pytest.approx(value) for key, value in values.items() if isinstance(value, float)},
        }
        for task, values in expected["results"].items()
    }
    for mine, theirs in zip(found["samples"]["toy_choice"], expected["samples"]["toy_choice"], strict=True):
        for (score, greedy), (other, other_greedy) in zip(
            mine["filtered_resps"], theirs["filtered_resps"], strict=True
        ):
            assert float(score) == pytest.approx(float(other), abs=1e-4)
            assert str(greedy) == str(other_greedy)
    answers = [
        [sample["filtered_resps"] for sample in each["samples"]["toy_answer"]] for each in (found, expected)
    ]
    assert answers[0] == answers[1]
