"""What is scored and what is not, by the class that lm-eval asks. tests/peers compares the numbers."""

from pathlib import Path

import pytest

from evals.callbacks import Callbacks
from evals.lm import HybridEvalLM
from model.errors import ArtifactError
from tests.evals.requests import instances


def test_nothing_has_probability_one(artifact: Path) -> None:
    lm = HybridEvalLM.from_artifact(artifact)
    assert lm.loglikelihood(instances("loglikelihood", ("Once", ""), ("", ""))) == [(0.0, True)] * 2
    assert lm.loglikelihood_rolling(instances("loglikelihood_rolling", ("Once",), ("",)))[0] < 0


def test_a_continuation_that_melts_into_the_context_is_scored(artifact: Path) -> None:
    """`</s` and `>` are one token together: hf would stop at an assertion."""
    lm = HybridEvalLM.from_artifact(artifact)
    ((logprob, _),) = lm.loglikelihood(instances("loglikelihood", ("Once</thin", "k>")))
    assert logprob < 0


def test_a_continuation_longer_than_the_model_reads_is_refused(artifact: Path) -> None:
    lm = HybridEvalLM.from_artifact(artifact)
    with pytest.raises(ArtifactError, match="a continuation to be scored has"):
        lm.loglikelihood(instances("loglikelihood", ("Once", " word" * 100)))


def test_a_longer_max_length_is_taken(artifact: Path) -> None:
    warnings: list[str] = []
    lm = HybridEvalLM.from_artifact(artifact, max_length=1000, callbacks=Callbacks(warn=warnings.append))
    lm.loglikelihood(instances("loglikelihood", ("Once", " word" * 100)))
    assert not warnings


def test_requests_of_many_batches_have_the_scores_of_one(artifact: Path) -> None:
    asked = instances(
        "loglikelihood", ("word " * 12, "end"), ("Once", " upon"), ("Once", " a time"), ("A", "b")
    )
    together = HybridEvalLM.from_artifact(artifact).loglikelihood(asked)
    alone = HybridEvalLM.from_artifact(artifact, batch_tokens=1).loglikelihood(asked)
    assert [score for score, _ in alone] == pytest.approx([score for score, _ in together], abs=1e-4)
    assert [greedy for _, greedy in alone] == [greedy for _, greedy in together]
