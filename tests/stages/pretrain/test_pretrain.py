import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from model import load
from model.artifact.hashing import content_hash
from model.config import HybridConfig
from model.errors import ArtifactError, DivergedError, PlanRefusedError, UsageError
from model.kernels.documents import Documents
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageOutcome
from stages.common.training import loop as loop_module
from stages.common.training import planning
from stages.pretrain.plan import plan
from stages.pretrain.stage import STAGE

Settings = dict[str, Any]


def pretrain(settings: Settings, out: Path, reporter: QuietReporter | None = None) -> StageOutcome:
    config = STAGE.config.model_validate(settings)
    return run_stage(
        STAGE, config, out=out, reporter=reporter or QuietReporter(), command=["nano2", "pretrain"]
    )


def logged(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_artifact_loads_here_and_its_loss_fell(settings: Settings, tmp_path: Path) -> None:
    settings |= {"tokens": "8k", "validate_every": 20}
    outcome = pretrain(settings, tmp_path / "base")
    lm = load(tmp_path / "base")
    assert lm.config.eos_token_ids == (2, 12)
    lines = logged(tmp_path / "base")
    validations = [line["validation_bits_per_byte"] for line in lines if "validation_bits_per_byte" in line]
    assert validations[-1] < 0.9 * validations[0]
    assert outcome.result.metrics["validation_bits_per_byte"] == validations[-1]
    assert (tmp_path / "base" / "tokenizer.json").is_file()


def test_weights_are_written_in_files_of_the_size_that_is_asked_for(
    settings: Settings, tmp_path: Path
) -> None:
    pretrain(settings, tmp_path / "whole")
    pretrain(settings | {"shard_size": "80kB"}, tmp_path / "shards")
    files = sorted((tmp_path / "shards").glob("model-*.safetensors"))
    assert len(files) > 1
    assert all(path.stat().st_size < 90_000 for path in files)
    whole, shards = (load(tmp_path / name).state_dict() for name in ("whole", "shards"))
    assert all(torch.equal(tensor, shards[name]) for name, tensor in whole.items())


def test_the_same_settings_give_the_same_content(settings: Settings, tmp_path: Path) -> None:
    pretrain(settings, tmp_path / "a")
    pretrain(settings, tmp_path / "b")
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")


def test_the_model_before_the_first_step_is_measured_and_the_run_stays_the_same(
    settings: Settings, tmp_path: Path
) -> None:
    pretrain(settings, tmp_path / "plain")
    metrics = pretrain(settings | {"validate_first": True}, tmp_path / "out").result.metrics
    first, *_, last = [line for line in logged(tmp_path / "out") if "validation_loss" in line]
    assert first["step"] == 0
    assert metrics["validation_loss_before"] == first["validation_loss"]
    assert metrics["validation_loss"] == last["validation_loss"]
    assert metrics["validation_loss_before"] == pytest.approx(math.log(512), abs=0.3)  # fresh weights guess
    assert content_hash(tmp_path / "out") == content_hash(tmp_path / "plain")


def test_recomputation_changes_nothing_that_is_made(settings: Settings, tmp_path: Path) -> None:
    pretrain(settings, tmp_path / "plain")
    again = settings | {"recompute": "mamba, mlp"}
    pretrain(again, tmp_path / "again")
    assert content_hash(tmp_path / "again") == content_hash(tmp_path / "plain")
    assert pretrain(again | {"recompute": ["attention"]}, tmp_path / "plain").up_to_date


def test_another_seed_gives_other_weights(settings: Settings, tmp_path: Path) -> None:
    pretrain(settings, tmp_path / "a")
    pretrain(settings | {"seed": 1}, tmp_path / "b")
    assert content_hash(tmp_path / "a") != content_hash(tmp_path / "b")


def test_accumulation_does_not_change_the_losses(settings: Settings, tmp_path: Path) -> None:
    pretrain(settings | {"micro_batch": 1}, tmp_path / "one")
    pretrain(settings | {"micro_batch": 4}, tmp_path / "four")
    one, four = (
        [line["loss"] for line in logged(tmp_path / name) if "loss" in line] for name in ("one", "four")
    )
    assert one == pytest.approx(four, rel=1e-5)


def test_the_learning_rate_warms_up_stays_and_decays(settings: Settings, tmp_path: Path) -> None:
    pretrain(settings | {"decay_fraction": 0.5}, tmp_path / "base")
    rates = [line["learning_rate"] for line in logged(tmp_path / "base") if "loss" in line]
    assert rates[:3] == pytest.approx([1.5e-3, 3e-3, 3e-3])
    assert rates[-1] == pytest.approx(3e-5)
    assert rates[5:] == sorted(rates[5:], reverse=True)


def test_the_blend_switches_at_60_and_90_percent(settings: Settings, tmp_path: Path) -> None:
    pretrain(settings | {"tokens": 20 * 4 * 32}, tmp_path / "base")
    phases = [line["phase"] for line in logged(tmp_path / "base") if "loss" in line]
    assert phases == [1] * 12 + [2] * 6 + [3] * 2


def test_packed_documents_are_kept_apart(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(settings, tmp_path / "apart")
    monkeypatch.setattr(Documents, "from_ids", classmethod(lambda cls, ids, shape: None))
    pretrain(settings, tmp_path / "leaking")
    assert content_hash(tmp_path / "apart") != content_hash(tmp_path / "leaking")


def test_bfloat16_follows_float32(settings: Settings, tmp_path: Path) -> None:
    pretrain(settings, tmp_path / "wide")
    pretrain(settings | {"precision": "bfloat16"}, tmp_path / "narrow")
    wide, narrow = (logged(tmp_path / name)[-2]["loss"] for name in ("wide", "narrow"))
    assert narrow != wide
    assert narrow == pytest.approx(wide, rel=0.02)


def test_weights_are_written_in_the_asked_dtype(settings: Settings, tmp_path: Path) -> None:
    pretrain(settings | {"dtype": "bfloat16"}, tmp_path / "base")
    assert load(tmp_path / "base").lm_head.weight.dtype == torch.bfloat16


def test_two_datasets_share_the_blend_by_weight(settings: Settings, dataset: Path, tmp_path: Path) -> None:
    reporter = QuietReporter()
    (tmp_path / "copy").symlink_to(dataset)
    pretrain(settings | {"data": [f"{dataset}:3", f"{tmp_path / 'copy'}:1"]}, tmp_path / "base", reporter)
    read = {m.split(":")[0]: float(m.split()[-2]) for m in reporter.messages if m.startswith("source ")}
    assert read["source packed/books"] > 2 * read["source copy/books"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_tokens": 100}, "whole number of micro-batches"),
        ({"preset": "nano3"}, "unknown preset"),
        ({"shape": {"vocab_size": 100}}, "embedding only 100 rows"),
        ({"shape": {"hidden_sizes": 64}}, "hidden_sizes"),
        ({"shape": {"max_position_embeddings": 16}}, "declared for 16"),
        ({"phase_boundaries": [0.5]}, "boundaries"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    settings: Settings, tmp_path: Path, change: Settings, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        pretrain(settings | change, tmp_path / "base")
    assert list(tmp_path.iterdir()) == []


def test_a_diverging_run_names_the_layer_and_the_rows(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Poisoned(loop_module.TrainingLoop):
        def _save(self) -> None:
            super()._save()
            with torch.no_grad():
                self.lm.backbone.layers[1].mixer.up_proj.weight.fill_(1e30)

    monkeypatch.setattr("stages.common.training.session.TrainingLoop", Poisoned)
    with pytest.raises(DivergedError) as caught:
        pretrain(settings | {"save_seconds": 0}, tmp_path / "base")
    assert "backbone.layers." in caught.value.what
    assert "books[" in caught.value.where
    assert not (tmp_path / "base").exists()


def test_the_plan_counts_parameters_exactly_and_refuses_what_cannot_fit(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = STAGE.config.model_validate(settings)
    estimate = plan(config)
    shape = HybridConfig.preset("tiny")
    from model import HybridLM

    assert estimate.sections["Parameters"]["total"] == sum(p.numel() for p in HybridLM(shape).parameters())
    assert estimate.refusals == []
    one_row = plan(STAGE.config.model_validate(settings | {"micro_batch": 1})).peak_bytes
    assert one_row is not None
    monkeypatch.setattr(planning, "available_bytes", lambda device: one_row)
    (refusal,) = plan(config).refusals
    assert re.search(r"--micro-batch 1\b.* would fit", refusal)


def test_a_run_that_cannot_fit_is_refused_before_it_starts(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "available_bytes", lambda device: 1000)
    with pytest.raises(PlanRefusedError, match="choose a smaller model"):
        pretrain(settings, tmp_path / "base")


def test_a_flipped_byte_in_the_dataset_is_found_before_training(
    settings: Settings, dataset: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "packed"
    shutil.copytree(dataset, copy)
    (arrow,) = (copy / "sources/books").glob("*.arrow")
    content = bytearray(arrow.read_bytes())
    content[len(content) // 2] ^= 1
    arrow.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        pretrain(settings | {"data": [str(copy)]}, tmp_path / "base")
    assert arrow.name in caught.value.where
    assert not (tmp_path / "base").exists()
