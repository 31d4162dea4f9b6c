"""One evaluation of one model, for the stages that make one.

`evals.quiet.prepare` has to be called before this module is imported.
"""

from collections.abc import Sequence
from pathlib import Path

from lm_eval.api.group import Group
from lm_eval.api.task import Task

from evals.callbacks import Callbacks
from evals.evaluation import Evaluation, evaluate
from evals.generation_settings import THINKING_SAMPLING
from evals.lm import HybridEvalLM
from evals.response_cache import ResponseCache
from evals.task_copies import RunSettings
from model.hybrid import HybridLM
from model.inference.stopping import stop_token_ids
from model.tokenizer import load_tokenizer
from stages.common.evaluation.settings import EvaluationSettings


def measure(
    lm: HybridLM,
    directory: Path,
    settings: EvaluationSettings,
    tasks: Sequence[Task | Group],
    *,
    identity: str,
    cache: ResponseCache,
    callbacks: Callbacks = Callbacks(),
) -> Evaluation:
    """Run tasks on a model whose tokenizer and stop tokens lie in `directory`.

    identity: what tells the model from others in the cache, such as its content hash.
    """
    tokenizer = load_tokenizer(directory, lm.config.vocab_size)
    chat = settings.apply_chat_template
    answering = HybridEvalLM(
        lm,
        tokenizer,
        stop_ids=stop_token_ids(directory, lm.config, tokenizer, chat=chat),
        chat=chat,
        max_length=settings.max_length,
        batch_tokens=settings.batch_tokens,
        batch_rows=settings.batch_rows,
        think_end=settings.think_end if chat else None,
        thinking=settings.thinking,
        thinking_sampling=THINKING_SAMPLING,
        seed=settings.seed,
        cache=cache,
        identity=identity,
        callbacks=callbacks,
    )
    return evaluate(
        answering,
        tasks,
        limit=settings.limit,
        num_fewshot=settings.num_fewshot,
        settings=RunSettings(
            generation=settings.gen,
            repeats=settings.repeats,
            budgets=settings.budgets,
            grace=settings.thinking_grace,
            chat=chat,
            check=callbacks.check,
        ),
        seed=settings.seed,
    )
