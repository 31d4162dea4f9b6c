"""`nano2 verify` as it is called."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from model.errors import ArtifactError, PlanRefusedError, UsageError
from model.loading import save
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageResult
from stages.verify.config import VerifyConfig
from stages.verify.plan import plan
from stages.verify.stage import STAGE
from tests.model.miniatures import miniature, randomized


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    save(randomized(miniature("M-*-", vocab_size=400)), path)
    return path


def verify(directory: Path, **settings: object) -> StageResult:
    config = VerifyConfig.model_validate({"model": directory, "tokens": 40, "decode_steps": 4, **settings})
    return run_stage(STAGE, config, out=None, reporter=QuietReporter(), command=["nano2", "verify"]).result


def test_a_healthy_model_passes(directory: Path) -> None:
    result = verify(directory)
    assert result.failure is None
    assert result.metrics["tokens"] == 40
    assert result.metrics["top1_agreement"] == 1.0
    assert float(result.metrics["max_abs_difference"]) < 1e-4
    assert float(result.metrics["decode_max_abs_difference"]) < 1e-4
    assert float(result.metrics["transformers_decode_max_abs_difference"]) < 1e-4
    assert len(result.rows) == 4 + 3
    assert "clamp_max_abs_difference" not in result.metrics
    assert "absent here" in result.notes[0]
    json.dumps(result.metrics)


def test_a_difference_fails_with_the_layer_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import model.layers.mlp as mlp

    monkeypatch.setattr(mlp, "squared_relu", torch.relu)
    result = verify(directory)
    assert isinstance(result.failure, ArtifactError)
    assert result.failure.what.startswith("layers.1 (mlp) differs from transformers at squared ReLU")
    assert result.failure.remedy
    assert result.rows[2]["part"] == "squared ReLU"


def test_rounding_fails_a_tolerance_below_it(directory: Path) -> None:
    assert isinstance(verify(directory, tolerance=1e-12).failure, ArtifactError)


def test_a_broken_decode_fails(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cached values are lost after each step: a seam that decoding passes with the compiled loops and without."""
    from model.inference.state import InferenceState, KeyValueCache

    original = InferenceState.advance

    def forgetful(self: InferenceState, counts: Sequence[int]) -> None:
        original(self, counts)
        for block in self.blocks:
            if isinstance(block, KeyValueCache):
                block.value_BSkh.zero_()

    monkeypatch.setattr(InferenceState, "advance", forgetful)
    failure = verify(directory).failure
    assert failure is not None
    assert "step by step" in failure.what


def test_the_clamp_is_named_and_measured(directory: Path) -> None:
    config = directory / "config.json"
    config.write_text(config.read_text().replace('"time_step_min": 1e-30', '"time_step_min": 0.1'))
    result = verify(directory)
    assert result.failure is None
    assert float(result.metrics["clamp_max_abs_difference"]) > 1e-3
    assert "time_step_min = 0.1" in result.notes[0]


def test_text_goes_through_the_models_tokenizer(
    directory: Path, tokenizer_directory: Path, tmp_path: Path
) -> None:
    for file in tokenizer_directory.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    text = tmp_path / "text.txt"
    text.write_text("The scan ran on, and the state was kept. " * 20)
    assert verify(directory, text=text).metrics["tokens"] == 40
    text.write_text("")
    with pytest.raises(UsageError, match="tokens"):
        verify(directory, text=text)
    text.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ArtifactError, match="UTF-8"):
        verify(directory, text=text)


def test_text_without_a_tokenizer(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("words")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json"):
        verify(directory, text=tmp_path / "text.txt")


def test_the_seed_chooses_the_tokens(directory: Path) -> None:
    def cosine(seed: int) -> object:
        return verify(directory, seed=seed).metrics["largest_logit"]

    assert cosine(1) == cosine(1) != cosine(2)


def test_plan_counts_the_weights_twice(directory: Path) -> None:
    parameters = sum(p.numel() for p in randomized(miniature("M-*-", vocab_size=400)).parameters())
    estimate = plan(VerifyConfig(model=directory))
    assert estimate.sections["memory"]["weights_bytes"] == 8 * parameters
    assert not estimate.refusals


def test_a_model_beyond_the_memory_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda _: 8)
    with pytest.raises(PlanRefusedError, match="memory"):
        verify(directory)
