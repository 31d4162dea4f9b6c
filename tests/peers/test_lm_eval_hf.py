"""The LM class against lm-eval's own `hf` backend: the same artifact on disk, the same requests, float32, CPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval import evaluate
from lm_eval.api.instance import Instance

from evals.chat_tasks import ChatTask
from evals.lm import HybridEvalLM
from evals.loading import load_tasks
from model.chat.special_tokens import BOS
from model.errors import UsageError
from model.loading import save
from model.tokenizer import load_tokenizer
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer
from tests.evals.episodes.desk import CALLS, ERRANDS, chat_file, desk_model, line
from tests.model.miniatures import miniature, randomized
from tests.stages.common.data.helpers import story
from tests.stages.conftest import tokenizer_directory

pytest.importorskip("accelerate", reason="lm-eval's hf backend needs it")
from lm_eval.models.huggingface import HFLM

__all__ = ["tokenizer_directory"]

MAX_LENGTH = 120
"""Short, so that the few-shot prompts and the long texts below have to be truncated or read in windows."""


@pytest.fixture(scope="module", params=["with-bos", "without-bos"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[HybridEvalLM, HFLM]:
    directory: Path = tmp_path_factory.mktemp("artifact")
    backend = train_tokenizer((story(number) for number in range(60)), 420)
    if request.param == "without-bos":
        from tokenizers import processors

        backend.post_processor = processors.ByteLevel(trim_offsets=False)
    save_tokenizer(backend, directory)
    config = miniature(
        "M-M*M", vocab_size=backend.get_vocab_size(), max_position_embeddings=MAX_LENGTH, eos_token_id=2
    )
    save(randomized(config), directory)
    hf = HFLM(pretrained=str(directory), device="cpu", dtype="float32", batch_size=4)
    return HybridEvalLM.from_artifact(directory, batch_tokens=600), hf


def instances(kind: Any, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(kind, {}, args, index, ("task", index, 1)) for index, args in enumerate(arguments)]


SCORED = [
    ("", "Once upon"),
    ("", BOS + "Once"),
    (BOS + "Once upon", " a time"),
    ("Once upon a time ", "there was"),  # the space belongs to the continuation
    ("Once upon a time\n\n", " there"),
    ("Once upon a time there was", " a"),
    ("Once upon a time there was", " b"),
    ("Once upon a time there was", " a girl who lived"),
    ("Ünïcode 語 🎉", " 語"),
    ("Once " * 40, "upon"),  # longer than the model reads, less than twice
    ("Once upon a time. " * 40, "The end of the story"),
    ("Once upon a time. " * 40, "The end"),
    ("x", "y" * 60),
]


def test_loglikelihoods_agree(pair: tuple[HybridEvalLM, HFLM]) -> None:
    ours, hf = pair
    requests = instances("loglikelihood", SCORED)
    expected = hf.loglikelihood(requests, disable_tqdm=True)
    for args, mine, theirs in zip(SCORED, ours.loglikelihood(requests), expected, strict=True):
        assert mine[0] == pytest.approx(theirs[0], abs=1e-4), args
        assert mine[1] == theirs[1], args


@pytest.mark.parametrize("task", ["nano2_arc_easy", "nano2_lambada"])
@pytest.mark.parametrize("shots", [0, 2])
def test_task_requests_agree(pair: tuple[HybridEvalLM, HFLM], task: str, shots: int) -> None:
    ours, hf = pair
    (loaded,) = load_tasks([task])
    loaded.set_config(key="num_fewshot", value=shots)
    loaded.set_fewshot_seed(1234)
    loaded.build_all_requests(limit=6, rank=0, world_size=1)
    expected = hf.loglikelihood(loaded.instances, disable_tqdm=True)
    for mine, theirs in zip(ours.loglikelihood(loaded.instances), expected, strict=True):
        assert mine[0] == pytest.approx(theirs[0], abs=1e-4)
        assert mine[1] == theirs[1]


def test_rolling_loglikelihoods_agree(pair: tuple[HybridEvalLM, HFLM]) -> None:
    ours, hf = pair
    texts = ["Once", story(3), story(4) * 4, BOS + story(5), "", "a" * MAX_LENGTH]
    requests = instances("loglikelihood_rolling", [(text,) for text in texts])
    expected = hf.loglikelihood_rolling(requests, disable_tqdm=True)
    assert ours.loglikelihood_rolling(requests) == pytest.approx(expected, abs=1e-3, rel=1e-6)


def test_greedy_generations_agree(pair: tuple[HybridEvalLM, HFLM]) -> None:
    """A batch of hf goes on until all its rows are done, so each of its requests is generated for alone."""
    ours, hf = pair
    free = {"until": [], "max_gen_toks": 24, "do_sample": False}
    prompts = [
        "Once upon a time",
        "The",
        story(7),
        story(8) * 3,
        BOS + "There was",
        "Question: what?\nAnswer:",
    ]
    whole = ours.generate_until(instances("generate_until", [(prompt, free) for prompt in prompts]))
    stops = [{**free, "until": [text[8:10] or "x", "</s>"]} for text in whole]
    arguments = [(prompt, settings) for prompt in prompts for settings in (free, *stops[:3])]
    requests = instances("generate_until", arguments)
    mine = ours.generate_until(requests)
    for request, text in zip(requests, mine, strict=True):
        assert text == hf.generate_until([request], disable_tqdm=True)[0], request.args
    assert len(set(mine)) > len(prompts), "the stop strings have no effect here"


def test_generation_ends_where_transformers_ends(pair: tuple[HybridEvalLM, HFLM]) -> None:
    """Ragged prompts in one batch, against transformers' `generate` with padding on the left."""
    ours, hf = pair
    prompts = ["Once", "Once upon a time there was", story(9)[:60]]
    tokenizer = load_tokenizer(Path(hf.pretrained))
    batch = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    with torch.no_grad():
        theirs = hf.model.generate(**batch, max_new_tokens=40, do_sample=False)[
            :, batch["input_ids"].shape[1] :
        ]
    settings = {"until": [], "max_gen_toks": 40, "do_sample": False}
    mine = ours.generate_until(instances("generate_until", [(prompt, settings) for prompt in prompts]))
    assert mine == [tokenizer.decode(ids, skip_special_tokens=True) for ids in theirs]


def test_rendered_chats_agree(pair: tuple[HybridEvalLM, HFLM]) -> None:
    """A chat has no begin-of-text token here; hf has to be told so."""
    _, plain_hf = pair
    hf = HFLM(
        pretrained=plain_hf.pretrained, device="cpu", dtype="float32", batch_size=4, add_bos_token=False
    )
    ours = HybridEvalLM.from_artifact(Path(plain_hf.pretrained), chat=True)
    prompt = ours.apply_chat_template([{"role": "user", "content": "Once upon"}])
    scored = instances("loglikelihood", [(prompt, "a time"), (prompt, "\n\nno")])
    for mine, theirs in zip(
        ours.loglikelihood(scored), hf.loglikelihood(scored, disable_tqdm=True), strict=True
    ):
        assert mine == (pytest.approx(theirs[0], abs=1e-4), theirs[1])
    asked = instances("generate_until", [(prompt, {"until": [], "max_gen_toks": 20})])
    assert ours.generate_until(asked) == hf.generate_until(asked, disable_tqdm=True)


def test_a_file_of_chats_is_a_task_for_hf_as_well(pair: tuple[HybridEvalLM, HFLM], tmp_path: Path) -> None:
    """Both through lm-eval, greedily: the same prompts, texts and scores."""
    _, plain_hf = pair
    wanted = {"letter": "e", "let_frequency": 1, "let_relation": "at least"}
    grader = {
        "name": "instructions",
        "instruction_id_list": ["keywords:letter_frequency"],
        "kwargs": [wanted],
    }
    lines = [
        {
            "messages": [
                {"role": "system", "content": "Be brief. /no_think"},
                {"role": "user", "content": story(n)[:40]},
            ],
            "grader": grader,
        }
        for n in range(6)
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    greedy = {"max_gen_toks": 8, "do_sample": False}
    hf = HFLM(
        pretrained=plain_hf.pretrained, device="cpu", dtype="float32", batch_size=4, add_bos_token=False
    )
    ours = HybridEvalLM.from_artifact(Path(plain_hf.pretrained), chat=True)
    found = []
    for lm in (ours, hf):
        (task,) = load_tasks([str(path)])
        task.set_config("generation_kwargs", greedy, update=True)
        task.set_fewshot_seed(0)
        results = evaluate(lm, {"tasks": {"chats": task}}, apply_chat_template=True, bootstrap_iters=0)
        found.append(
            [
                (sample["arguments"], sample["resps"], sample["score"])
                for sample in results["samples"]["chats"]
            ]
        )
    assert found[0] == found[1]
    assert len({score for *_, score in found[0]}) == 2


def test_an_errand_is_one_turn_for_hf(tokenizer_directory: Path, tmp_path: Path) -> None:
    """It is asked the same; its calls, made in one turn, are judged as those of an episode are."""
    always = {"</think>": {"<TOOLCALL>": 1.0}, "<TOOLCALL>": {CALLS[1]: 1.0}}
    model = desk_model(tokenizer_directory, tmp_path / "desk", {**ERRANDS, **always})
    wanted = line("Move lunch to Tue /no_think")
    other = {**wanted, "grader": {**wanted["grader"], "calls": []}}
    path = chat_file(tmp_path / "errands.jsonl", wanted, other)
    hf = HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=2, add_bos_token=False)
    ours = HybridEvalLM.from_artifact(model, chat=True)
    found = []
    for lm, settings in ((ours, {"max_turns": 3}), (hf, {"until": ["\n"]})):
        (task,) = load_tasks([str(path)])
        task.set_config(
            "generation_kwargs", {"max_gen_toks": 40, "do_sample": False, **settings}, update=True
        )
        task.set_fewshot_seed(0)
        results = evaluate(lm, {"tasks": {"errands": task}}, apply_chat_template=True, bootstrap_iters=0)
        found.append(results["samples"]["errands"])
    for mine, theirs in zip(*found, strict=True):
        assert mine["arguments"][0][0] == theirs["arguments"][0][0]
        assert mine["score_state"] == theirs["score_state"]
    assert [(sample["acc"], sample["score"]) for sample in found[1]] == [(1, 1), (0, 0)]
    assert [(sample["acc"], sample["score"]) for sample in found[0]] == [(0, 1), (0, 0)], "it never ends"
    assert found[1][0]["resps"] == [[f"<TOOLCALL>{CALLS[1]}</TOOLCALL>"]]


def test_what_hf_cannot_be_told_of_a_chat(pair: tuple[HybridEvalLM, HFLM], tmp_path: Path) -> None:
    """It has its own setting for thinking; what the line itself says would be lost."""
    _, hf = pair
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    base = {"messages": turns, "grader": {"name": "math", "answer": "1"}}
    lines = [base, {**base, "thinking": False}, {**base, "tools": [{"name": "f"}]}]
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    (task,) = load_tasks([str(path)])
    assert isinstance(task, ChatTask)
    asked = {"num_fewshot": 0, "apply_chat_template": True, "chat_template": hf.apply_chat_template}
    plain, *telling = task.test_docs()
    assert task.fewshot_context(plain, **asked) == hf.apply_chat_template(turns[:1])
    for number, (doc, name) in enumerate(zip(telling, ("thinking", "tools"), strict=True), start=2):
        with pytest.raises(UsageError, match=f"has {name}, which") as caught:
            task.fewshot_context(doc, **asked)
        assert caught.value.where == f"{path} line {number}"


def test_the_chat_template_and_the_lengths_agree(pair: tuple[HybridEvalLM, HFLM]) -> None:
    ours, hf = pair
    history = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert ours.apply_chat_template(history) == hf.apply_chat_template(history)
    answered = [*history, {"role": "assistant", "content": "The answer is"}]
    assert ours.apply_chat_template(answered, add_generation_prompt=False) == hf.apply_chat_template(
        answered, add_generation_prompt=False
    )
    assert ours.chat_template(True) == hf.chat_template(True)
    assert (ours.max_length, ours.prefix_token_id, ours.eot_token_id, ours.tokenizer_name) == (
        *(hf.max_length, hf.prefix_token_id, hf.eot_token_id, hf.tokenizer_name),
    )
