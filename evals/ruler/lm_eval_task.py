"""RULER as tasks of lm-eval: `evals/tasks/ruler/*.yaml` name what is here.

TaskManager(..., metadata={"tokenizer": "artifacts/base", "lengths": [512, 1024], "samples": 100})
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask

from evals.ruler.samples import RESERVED, SEED
from evals.ruler.samples import samples as make_samples
from evals.ruler.scoring import score
from model.errors import UsageError
from model.tokenizer import load_tokenizer

PUBLISHED_COUNT = 500


class RulerEvalTask(ConfigurableTask):
    """Generates as many tokens as a sample has room for. Metrics, 0 to 1: `score` over all samples, `score_512` over those
    of 512 tokens, and so on."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})
        for length in sorted(set(self.eval_docs["length"])):
            self._aggregation_list[_metric(length)] = mean
            self._higher_is_better[_metric(length)] = True

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> Instance:
        instance: Instance = super().construct_requests(doc, ctx, **kwargs)
        settings = instance.args[1]
        settings["max_gen_toks"] = min(settings["max_gen_toks"], doc["answer_tokens"])
        return instance


def process_results(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """The score of an answer, also under the name of its length."""
    value = score(doc["task"], results[0], doc["answers"])
    return {"score": value, _metric(doc["length"]): value}


def _metric(length: int) -> str:
    return f"score_{length}"


def documents(
    *,
    ruler_task: str,
    tokenizer: str | None = None,
    pretrained: str | None = None,
    lengths: Sequence[int] | None = None,
    samples: int = PUBLISHED_COUNT,
    seed: int = SEED,
    depths: Sequence[float] | None = None,
    reserved: int = RESERVED,
    **_others: Any,
) -> dict[str, datasets.Dataset]:
    """The samples of one task at all lengths as {"test": rows}: sample 0 at every length, then sample 1, and so on, so that
    lm-eval's `limit` leaves every length in.

    `ruler_task` is the YAML's, the rest lm-eval's metadata. tokenizer: directory of the model's tokenizer, which lm-eval's
    own command line passes as `pretrained`. The others are those of `evals.ruler.samples.samples`, which says what is
    refused; UsageError too without tokenizer or lengths.
    """
    refuse = partial(UsageError, where=f"RULER task {ruler_task}")
    directory = tokenizer or pretrained
    if not isinstance(directory, str | Path) or not directory:
        raise refuse(
            "its samples are made for a tokenizer, and none is given",
            remedy='give the model\'s directory, as metadata {"tokenizer": "DIR", "lengths": [512]}',
        )
    if not isinstance(lengths, list | tuple) or not lengths:
        raise refuse(
            "it has no lengths to make samples of" if lengths is None else f"lengths is {lengths!r}",
            remedy="give a list of lengths in tokens, such as 512,1024",
        )
    loaded = load_tokenizer(Path(directory))
    by_length = [
        make_samples(ruler_task, loaded, length, samples, seed, reserved=reserved, depths=depths or ())
        for length in dict.fromkeys(lengths)
    ]
    rows = [vars(sample) for group in zip(*by_length, strict=True) for sample in group]
    return {"test": datasets.Dataset.from_list(rows)}
