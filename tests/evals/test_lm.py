"""The LM class without a peer: what it adds to lm-eval's `hf`, and what it refuses. tests/peers compares the numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from evals.callbacks import Callbacks
from evals.lm import HybridEvalLM
from model.errors import ArtifactError
from model.tokenizer import load_tokenizer
from tests.evals.requests import instances
from tests.model.miniatures import miniature, randomized


def test_truncation_is_said_once_and_progress_reaches_the_end(artifact: Path) -> None:
    warnings: list[str] = []
    bars: list[list[Any]] = []

    @contextmanager
    def progress(title: str, total: int, unit: str) -> Iterator[Any]:
        bars.append([title, total, 0])

        class Bar:
            def update(self, advance: int = 1) -> None:
                bars[-1][2] += advance

        yield Bar()

    lm = HybridEvalLM.from_artifact(artifact, callbacks=Callbacks(progress, warnings.append), batch_tokens=50)
    requests = instances("loglikelihood", ("word " * 200, "end"), ("Once", " upon"), ("word " * 100, "end"))
    lm.loglikelihood(requests)
    lm.generate_until(instances("generate_until", ("Once", {"max_gen_toks": 3}), ("A", {"max_gen_toks": 2})))
    assert warnings == ["2 of 3 requests are longer than 64 tokens and lost their beginning"]
    assert bars == [["scoring", 3, 3], ["generating", 2, 2]]


def test_chat_ends_where_a_turn_ends(artifact: Path) -> None:
    assert 12 in HybridEvalLM.from_artifact(artifact, chat=True).stop_ids
    assert 12 not in HybridEvalLM.from_artifact(artifact).stop_ids


def test_a_tokenizer_without_any_text_token_is_refused(artifact: Path) -> None:
    tokenizer = load_tokenizer(artifact)
    tokenizer.bos_token = tokenizer.eos_token = None
    with pytest.raises(ArtifactError, match="neither a bos_token nor an eos_token"):
        HybridEvalLM(randomized(miniature("M")), tokenizer, stop_ids=frozenset())
