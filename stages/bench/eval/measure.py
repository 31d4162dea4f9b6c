"""The measurements. Each function is one, meant for a fresh process (`stages.bench.isolation.run_isolated`)."""

import io
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.api.task import Task

from evals.encoding import RequestEncoder
from evals.generation_settings import GenerationSettings
from evals.lm import HybridEvalLM
from evals.loading import load_tasks
from model.inference.generation import Generator, Request
from model.tokenizer import load_tokenizer
from stages.bench.eval.sweep import METHODS, REFERENCE, Kind, Mix, Setting
from stages.common.allocator import keep_freed_memory

TIE = 1e-4
"""Two logits that are nearer than this may come out in either order."""


@dataclass(frozen=True)
class Answers:
    """`seconds` for all requests of a kind, and what was answered, in their order: (log-likelihood, is greedy),
    log-likelihoods, or texts."""

    seconds: float
    answers: list[Any]


def measure(
    setting: Setting, directory: Path, mix: Mix, kinds: Sequence[Kind], threads: int
) -> dict[Kind, Answers]:
    """Answer the requests of some kinds, each kind by itself, model and tokenizer loaded and warm."""
    _set_up(threads)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        lm = _build(setting, directory)
        measured = {}
        for kind in kinds:
            warm_up, requests = build_requests(mix, kind)
            answer = getattr(lm, METHODS[kind])
            answer(warm_up, disable_tqdm=True)
            start = time.perf_counter()
            answers = answer(requests, disable_tqdm=True)
            seconds = time.perf_counter() - start
            measured[kind] = Answers(seconds, list(map(str, answers)) if kind == "generate" else answers)
    return measured


def build_requests(mix: Mix, kind: Kind) -> tuple[list[Instance], list[Instance]]:
    """What lm-eval asks of one more document of each task, to warm up with (our side remembers what it was asked), and of
    the mix's documents."""
    warm_up: list[Instance] = []
    requests: list[Instance] = []
    for name, limit in mix.documents[kind].items():
        (task,) = load_tasks([name])
        assert isinstance(task, Task)
        if kind == "generate":
            task.set_config(
                "generation_kwargs", {**task.config.generation_kwargs, "max_gen_toks": mix.new_tokens}
            )
        task.build_all_requests(limit=limit + 1, rank=0, world_size=1)
        for instance in task.instances:
            (requests if instance.doc_id < limit else warm_up).append(instance)
    return warm_up, requests


def count_text_tokens(directory: Path, mix: Mix) -> list[int]:
    """Of each text of the rolling requests."""
    encoder = RequestEncoder(load_tokenizer(directory))
    _, requests = build_requests(mix, "rolling")
    return [len(ids) for ids in encoder.encode([request.args[0] for request in requests])]


def count_mismatches(
    directory: Path, mix: Mix, ours: Sequence[str], theirs: Sequence[str], threads: int
) -> int:
    """Greedy texts that differ although no token up to there had a rival within `TIE` (logits, float32)."""
    _set_up(threads)
    lm = HybridEvalLM.from_artifact(directory, dtype=REFERENCE)
    _, requests = build_requests(mix, "generate")
    prompts = RequestEncoder(lm.tokenizer).encode([request.args[0] for request in requests])
    mismatches = 0
    for request, prompt, mine, other in zip(requests, prompts, ours, theirs, strict=True):
        if mine != other:
            wanted = GenerationSettings.of(request.args[1], request.task_name).max_tokens
            prompt = prompt[-(lm.max_length - wanted) :]
            mismatches += not _meets_a_tie(lm, prompt, wanted, other)
    return mismatches


def _meets_a_tie(lm: HybridEvalLM, prompt: list[int], max_tokens: int, other: str) -> bool:
    """Whether our greedy text leaves another behind a token that had a rival."""
    tokens = Generator(lm.lm).run([Request(prompt, max_tokens)])[0].token_ids
    same = 0
    while same < len(tokens) and other.startswith(_text(lm, tokens[: same + 1])):
        same += 1
    with torch.inference_mode():
        logits_TV = lm.lm(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 :]
    best_T2 = logits_TV[: same + 1].topk(2).values
    return bool((best_T2[:, 0] - best_T2[:, 1]).min() <= TIE)


def _text(lm: HybridEvalLM, tokens: list[int]) -> str:
    """Whole characters alone."""
    return str(lm.tokenizer.decode(tokens, skip_special_tokens=True)).rstrip("\ufffd")


def _set_up(threads: int) -> None:
    """What every nano2 command does to its process, for either side alike."""
    torch.set_num_threads(threads)
    keep_freed_memory()


def _build(setting: Setting, directory: Path) -> Any:
    if setting.side == "nano2":
        return HybridEvalLM.from_artifact(directory, dtype=setting.dtype, batch_rows=setting.batch)
    from lm_eval.models.huggingface import HFLM

    transformers.logging.set_verbosity_error()
    return HFLM(pretrained=str(directory), device="cpu", dtype=setting.dtype, batch_size=setting.batch)
