"""`--precision fp8` in a whole run, by the emulation."""

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from model import load
from model.artifact.hashing import content_hash
from model.artifact.weights import CheckpointFiles
from model.config import HybridConfig
from model.errors import DivergedError, PlanRefusedError, UsageError
from model.hybrid import HybridLM
from model.precision.emulation import Emulation
from model.precision.layers import products, use_fp8
from model.precision.product import Product
from stages.common.reporter import QuietReporter
from stages.common.training import planning
from stages.common.training.hardware import tell_matrix_rate
from stages.common.training.loop import TrainingLoop
from stages.common.training.memory import FP8_BYTES, training_memory
from stages.dpo.config import DpoConfig
from stages.pretrain.plan import plan
from stages.pretrain.stage import STAGE
from tests.model.precision.test_layers import Overflowing, Stuck
from tests.ranks import run_ranks
from tests.stages.pretrain.test_pretrain import logged, pretrain

Settings = dict[str, Any]
STEPS = 6
SHAPE = {"pattern": "M-M*-M-", "mamba_num_heads": 16, "mamba_head_dim": 16}
BROKEN_AT = 3


@pytest.fixture
def settings(settings: Settings) -> Settings:
    tell_matrix_rate(torch.device("cpu"), torch.bfloat16, 1e11)  # measuring it takes longer than the runs
    tokens = STEPS * int(settings["batch_tokens"])
    return settings | {"shape": SHAPE, "precision": "fp8", "save_seconds": 0, "tokens": tokens}


class Reporter(QuietReporter):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def log(self, message: str) -> None:
        self.messages.append(message)


def break_layer(monkeypatch: pytest.MonkeyPatch, name: str, broken: type[Emulation]) -> None:
    """Behind a step, let a layer's quantizer go wrong."""

    class Broken(TrainingLoop):
        def _save(self) -> None:
            super()._save()
            if self.counters.step == BROKEN_AT:
                dict(products(self.lm))[name].product = Product(broken("blocks"))

    monkeypatch.setattr("stages.common.training.session.TrainingLoop", Broken)


def test_a_run_says_its_layers_and_its_artifact_is_that_of_any_run(
    settings: Settings, tmp_path: Path
) -> None:
    reporter = Reporter()
    metrics = pretrain(settings, tmp_path / "fp8", reporter).result.metrics
    plain = pretrain(settings | {"precision": "bfloat16"}, tmp_path / "plain").result.metrics
    assert any(line.startswith("FP8 products: an emulation") for line in reporter.messages)
    assert "q_proj, FP8: [32, 32] in block 3" in reporter.messages
    keys = [sorted(CheckpointFiles(tmp_path / name).keys()) for name in ("fp8", "plain")]
    assert keys[0] == keys[1]
    assert content_hash(tmp_path / "fp8") != content_hash(tmp_path / "plain")
    assert metrics["validation_loss"] == pytest.approx(plain["validation_loss"], rel=0.01)
    assert load(tmp_path / "fp8").config.pattern == SHAPE["pattern"]


@pytest.mark.parametrize(
    ("broken", "layer", "what"),
    [
        (Overflowing, "backbone.layers.4.mixer.down_proj", "the loss is not finite in FP8"),
        (Stuck, "backbone.layers.2.mixer.out_proj", "the gradient is not finite in FP8"),
    ],
)
def test_a_batch_that_only_fp8_cannot_do_names_the_layer_and_the_run_continues_in_bfloat16(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: type[Emulation],
    layer: str,
    what: str,
) -> None:
    with monkeypatch.context() as patched:
        break_layer(patched, layer, broken)
        with pytest.raises(DivergedError) as caught:
            pretrain(settings, tmp_path / "base")
    assert caught.value.exit_code == 5
    assert caught.value.what.startswith(what)
    assert f"the first layer at fault is {layer}: " in caught.value.what
    assert "books[" in caught.value.where
    assert "--precision bfloat16" in caught.value.remedy
    reporter = Reporter()
    pretrain(settings | {"precision": "bfloat16"}, tmp_path / "base", reporter)
    assert f"continuing after step {BROKEN_AT} of {STEPS}" in reporter.messages
    lines = logged(tmp_path / "base")
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, STEPS + 1))
    assert all(math.isfinite(line["loss"]) for line in lines if "loss" in line)


def test_a_run_that_continues_in_fp8_repeats_the_whole_one_bit_for_bit(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        break_layer(patched, "backbone.layers.3.mixer.o_proj", Overflowing)
        with pytest.raises(DivergedError):
            pretrain(settings, tmp_path / "base")
    pretrain(settings, tmp_path / "base")
    pretrain(settings, tmp_path / "whole")
    assert content_hash(tmp_path / "base") == content_hash(tmp_path / "whole")


@pytest.mark.parametrize("tensor", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_ranks_train_as_one_process_does_and_name_the_layer_alike(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensor: int
) -> None:
    settings |= {"shape": SHAPE | {"num_key_value_heads": 2}}
    pretrain(settings, tmp_path / "alone")
    on_ranks = settings | {"tensor_parallel": tensor}
    layer = "backbone.layers.4.mixer.down_proj"
    with monkeypatch.context() as patched:
        break_layer(patched, layer, Overflowing)
        with pytest.raises(DivergedError, match=f"the first layer at fault is {layer}"):
            run_ranks(2, pretrain_quietly, on_ranks, tmp_path / "ranks")
    run_ranks(2, pretrain_quietly, on_ranks, tmp_path / "ranks")
    losses = [
        [line["loss"] for line in logged(tmp_path / name) if "loss" in line] for name in ("alone", "ranks")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)


def pretrain_quietly(settings: Settings, out: Path) -> None:
    pretrain(settings, out)


def test_weights_that_no_precision_could_use_are_no_fault_of_fp8(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Poisoned(TrainingLoop):
        def _save(self) -> None:
            super()._save()
            with torch.no_grad():
                self.lm.backbone.layers[2].mixer.out_proj.weight[0, 0] = math.nan

    monkeypatch.setattr("stages.common.training.session.TrainingLoop", Poisoned)
    with pytest.raises(DivergedError) as caught:
        pretrain(settings, tmp_path / "base")
    assert (
        caught.value.what
        == "the loss is not finite; the parameter backbone.layers.2.mixer.out_proj.weight is not finite"
    )


def test_the_plan_says_the_layers_and_refuses_a_model_without_any(settings: Settings) -> None:
    estimate = plan(STAGE.config.model_validate(settings))
    section = estimate.sections["Precision"]
    assert 0 < section["fp8_share_of_projections"] < 1
    assert section["up_proj, FP8"] == "[64, 32] in block 4"
    assert "first 2 and last 2" in str(section["up_proj, bfloat16"])
    with pytest.raises(UsageError, match="no layer of this model"):
        plan(STAGE.config.model_validate(settings | {"shape": {"pattern": "M-*-"}}))


@pytest.mark.skipif(find_spec("transformer_engine") is not None, reason="Transformer Engine is installed")
def test_a_gpu_without_transformer_engine_is_refused_with_the_remedy(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.precision.transformer_engine import TransformerEngine

    with pytest.raises(PlanRefusedError, match="does not import") as caught:
        TransformerEngine("blocks")
    assert caught.value.exit_code == 4
    assert "pip install" in caught.value.remedy
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config = STAGE.config.model_validate(settings)
    [refusal] = planning._refused_precision(config, torch.device("cuda"))
    assert "does not import" in refusal
    assert "--precision bfloat16" in refusal
    in_bfloat16 = STAGE.config.model_validate(settings | {"precision": "bfloat16"})
    assert planning._refused_precision(in_bfloat16, torch.device("cuda")) == []


def test_the_plan_counts_what_the_products_save() -> None:
    config = HybridConfig.preset("tiny", **SHAPE | {"hidden_size": 128, "intermediate_size": 256})
    lm = HybridLM(config)
    lm.compute_dtype = torch.bfloat16
    use_fp8(lm, "blocks")
    kept: list[int] = []

    def count(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype == torch.float8_e4m3fn:
            kept.append(round(tensor.numel() * FP8_BYTES))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        lm.hidden_states(torch.zeros(1, 256, dtype=torch.long))
    plans = {name: training_memory(config, 1, 256, name) for name in ("bfloat16", "fp8")}
    hidden, inner, queries = 128, 256, config.num_attention_heads * config.head_dim
    inputs = (hidden + inner) + (3 * hidden + queries) + (hidden + inner)  # blocks 2, 3 and 4
    assert sum(kept) == 256 * inputs * FP8_BYTES
    in_bfloat16 = 2 * (hidden + inner) + 2 * hidden + 2 * (hidden + inner)
    saved = plans["bfloat16"].activations - plans["fp8"].activations
    assert saved == pytest.approx(256 * (in_bfloat16 - inputs * FP8_BYTES), abs=256 * 3)
    assert plans["fp8"].weights == plans["bfloat16"].weights


def test_quantized_weights_of_blocks_that_are_computed_again_are_counted() -> None:
    config = HybridConfig.preset("nano2-12b")
    again = {"recompute": ["mlp", "mamba"]}
    plans = {name: training_memory(config, 1, 8192, name, **again) for name in ("bfloat16", "fp8")}
    mlp = 2 * 2 * 26 * config.hidden_size * config.intermediate_size
    mamba = 2 * 26 * config.hidden_size * (config.in_proj_width + config.mamba_width)
    assert plans["fp8"].weights - plans["bfloat16"].weights == mlp + mamba


def test_losses_that_compare_two_models_take_no_fp8() -> None:
    with pytest.raises(ValueError, match="the reference is computed without FP8"):
        DpoConfig.model_validate({"model": "m", "data": ["pairs.jsonl"], "precision": "fp8"})
