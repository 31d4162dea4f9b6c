"""RULER run by lm-eval: models that are right, wrong or unlike by construction, and this project's own model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from evals.callbacks import Callbacks
from evals.lm import HybridEvalLM
from evals.ruler.samples import TASKS
from evals.ruler.scoring import score_table
from evals.tasks import task_manager
from model.errors import ArtifactError, UsageError
from model.loading import save
from model.tokenizer import copy_tokenizer, load_tokenizer
from tests.evals.ruler.conftest import nano2_directory
from tests.model.miniatures import miniature, randomized

SHORT = sorted(f"nano2_ruler_{task}" for task in set(TASKS) - {"cwe", "niah_multikey_3"})


class AnsweringLM(LM):
    """Gives to each document the answer that `answer` makes of it and of the one before it in its task."""

    def __init__(self, answer: Callable[[dict[str, Any], dict[str, Any]], str]) -> None:
        super().__init__()
        self.answer = answer
        self.requests: list[Instance] = []

    def generate_until(self, requests: Sequence[Instance], **_: Any) -> list[str]:
        self.requests += requests
        return [
            self.answer(request.doc, before.doc)
            for request, before in zip(requests, [requests[-1], *requests[:-1]], strict=True)
        ]

    def loglikelihood(self, requests: Any, **_: Any) -> Any:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


def metadata(**settings: Any) -> dict[str, Any]:
    return {"tokenizer": str(nano2_directory()), "lengths": [512, 768], "samples": 3, **settings}


def evaluate(
    lm: LM, tasks: list[str], limit: int | None = None, chat: bool = False, **settings: Any
) -> dict[str, Any]:
    results = simple_evaluate(
        model=lm,
        tasks=tasks,
        task_manager=task_manager(metadata=metadata(**settings)),
        limit=limit,
        bootstrap_iters=10,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
    )
    assert results is not None
    return results


def rows_of(results: dict[str, Any]) -> list[dict[str, Any]]:
    return score_table(sample for samples in results["samples"].values() for sample in samples)


def test_the_model_that_is_right_scores_100_in_every_task() -> None:
    lm = AnsweringLM(lambda doc, _: f" {'; '.join(doc['answers'])}.\n")
    results = evaluate(lm, ["nano2_ruler"], lengths=[1300], samples=2)
    assert sorted(results["results"]) == sorted(f"nano2_ruler_{task}" for task in TASKS)
    for figures in results["results"].values():
        assert figures["score,none"] == figures["score_1300,none"] == 1
    rows = rows_of(results)
    assert {row["score"] for row in rows} == {100}
    assert {row["task"] for row in rows} == {*TASKS, "mean"}
    assert all(request.args[1]["max_gen_toks"] == request.doc["answer_tokens"] for request in lm.requests)
    assert all(request.args[0].endswith(request.doc["answer_prefix"]) for request in lm.requests)


def test_the_model_that_gives_the_answers_of_the_question_before_scores_0() -> None:
    results = evaluate(
        AnsweringLM(lambda _, before: "; ".join(before["answers"])), ["nano2_ruler"], lengths=[1300]
    )
    assert {row["score"] for row in rows_of(results) if row["task"] not in ("qa_1", "mean")} == {0}


def test_every_length_has_its_figure() -> None:
    """A model that reads 600 tokens and no more."""
    lm = AnsweringLM(lambda doc, _: doc["answers"][0] if doc["prompt_tokens"] < 600 else "?")
    results = evaluate(lm, ["nano2_ruler_niah_single_2", "nano2_ruler_niah_multiquery"])
    single = results["results"]["nano2_ruler_niah_single_2"]
    assert (single["score_512,none"], single["score_768,none"], single["score,none"]) == (1, 0, 0.5)
    assert results["higher_is_better"]["nano2_ruler_niah_single_2"]["score_768"] is True
    assert results["results"]["nano2_ruler_niah_multiquery"]["score_512,none"] == 0.25
    means = {row["length"]: row["score"] for row in rows_of(results) if row["task"] == "mean"}
    assert means == {512: 62.5, 768: 0}


def test_a_model_that_forgets_the_middle_shows_in_the_table() -> None:
    lm = AnsweringLM(lambda doc, _: "" if 0.3 < doc["depths"][0] < 0.7 else doc["answers"][0])
    results = evaluate(lm, ["nano2_ruler_niah_multikey_1"], depths=[0, 0.5, 1], samples=6)
    by_depth = {(row["length"], row["depth"]): (row["score"], row["n"]) for row in rows_of(results)}
    for length in (512, 768):
        assert by_depth[length, "40-60%"] == (0, 2)
        assert by_depth[length, "0-20%"] == by_depth[length, "80-100%"] == (100, 2)
        assert by_depth[length, None] == (pytest.approx(200 / 3), 6)


def test_a_limit_leaves_every_length_in() -> None:
    results = evaluate(AnsweringLM(lambda *_: ""), ["nano2_ruler_vt"], limit=4)
    lengths = [sample["doc"]["length"] for sample in results["samples"]["nano2_ruler_vt"]]
    assert lengths == [512, 768, 512, 768]


def test_worked_examples_are_the_tasks_own() -> None:
    """lm-eval's would make a prompt of twice the length."""
    lm = AnsweringLM(lambda *_: "")
    simple_evaluate(
        model=lm,
        tasks=["nano2_ruler_niah_single_1"],
        task_manager=task_manager(metadata=metadata()),
        num_fewshot=2,
    )
    tokenizer = load_tokenizer(nano2_directory())
    for request in lm.requests:
        assert len(tokenizer(request.args[0])["input_ids"]) == request.doc["prompt_tokens"]


def test_the_short_tag() -> None:
    tasks = task_manager(metadata=metadata()).load(["nano2_ruler_short"])["tasks"]
    assert sorted(tasks) == SHORT


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("artifact")
    copy_tokenizer(nano2_directory(), directory)
    vocab = len(load_tokenizer(directory))
    lm = randomized(miniature("M*-", vocab_size=vocab, max_position_embeddings=512, eos_token_id=2))
    save(lm, directory)
    return directory


@pytest.mark.parametrize("chat", [False, True])
def test_our_own_model_reads_every_sample_whole(artifact: Path, chat: bool) -> None:
    """Prompt, template and answer fit into the context; with a template the answer's beginning stands in the assistant's
    turn, behind a thinking that is closed."""
    warnings: list[str] = []
    lm = HybridEvalLM.from_artifact(
        artifact, chat=chat, thinking=False if chat else None, callbacks=Callbacks(warn=warnings.append)
    )
    results = evaluate(
        lm,
        ["nano2_ruler_niah_single_2", "nano2_ruler_qa_1"],
        chat=chat,
        lengths=[512],
        tokenizer=str(artifact),
        samples=2,
    )
    assert not warnings
    for samples in results["samples"].values():
        assert len(samples) == 2
        for sample in samples:
            prompt, settings = sample["arguments"][0]
            doc = sample["doc"]
            if chat:
                assert prompt.startswith("<SPECIAL_10>System\n")
                assert f"<SPECIAL_11>User\n{doc['prompt']}\n<SPECIAL_11>Assistant\n" in prompt
                assert prompt.endswith(f"<think></think>{doc['answer_prefix']}")
            else:
                assert prompt == f"{doc['prompt']} {doc['answer_prefix']}"
            encoded = lm.tok_encode(prompt)
            assert len(encoded) + settings["max_gen_toks"] <= 512
            assert chat or len(encoded) == doc["prompt_tokens"]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"tokenizer": None}, UsageError, "made for a tokenizer, and none is given"),
        ({"tokenizer": 7}, UsageError, "made for a tokenizer, and none is given"),
        ({"tokenizer": "/nowhere"}, ArtifactError, "no tokenizer.json"),
        ({"lengths": None}, UsageError, "no lengths"),
        ({"lengths": []}, UsageError, "lengths is"),
        ({"lengths": 512}, UsageError, "lengths is 512"),
        ({"lengths": ["512"]}, UsageError, "length is '512'"),
        ({"lengths": [512, 100]}, UsageError, "100 tokens are too few"),
        ({"samples": 0}, UsageError, "count is 0"),
        ({"seed": "x"}, UsageError, "seed is 'x'"),
        ({"depths": [2]}, UsageError, "depths is"),
        ({"reserved": 1000}, UsageError, "1000 of 512 tokens are reserved"),
    ],
)
def test_bad_metadata_is_refused(change: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        task_manager(metadata=metadata(**change)).load(["nano2_ruler_vt"])


def test_lm_evals_own_command_line_names_the_model() -> None:
    """It passes `pretrained` on, and nothing by the name of `tokenizer`."""
    given = {**metadata(), "pretrained": str(nano2_directory())}
    del given["tokenizer"]
    tasks = task_manager(metadata=given).load(["nano2_ruler_niah_single_1"])["tasks"]
    assert len(tasks["nano2_ruler_niah_single_1"].eval_docs) == 6
