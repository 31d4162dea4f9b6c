"""nano2 distill with the teacher in memory."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model import load
from model.artifact.hashing import content_hash
from model.counting import count_parameters, forward_flops_per_token
from model.errors import ArtifactError, InterruptedRunError, Nano2Error, NotFiniteError, UsageError
from model.loading import read_config, save
from model.tokenizer import copy_tokenizer
from stages.common.distillation.objective import WholeLogits
from stages.common.distillation.session import HeldOutFromTeacher, Taught
from stages.common.reporter import QuietReporter
from stages.common.training import planning
from stages.common.training.batches import TrainingData
from stages.common.training.loop import TrainingLoop
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer
from stages.distill.config import DistillConfig
from stages.distill.plan import plan
from tests.model.miniatures import miniature, randomized
from tests.stages.common.data.helpers import story
from tests.stages.distill.conftest import SEQ_LEN, pack
from tests.stages.distill.helpers import Settings, distill, logged


def held_out(model: Path, settings: Settings) -> dict[str, float]:
    config = DistillConfig.model_validate(settings)
    data = TrainingData(config.data)
    taught = Taught(data, data, WholeLogits(load(settings["teacher"]), 1.0))
    return HeldOutFromTeacher(taught, 4)(load(model), 0)


@pytest.mark.parametrize("kept", [{}, {"top_k": 16}])
def test_a_damaged_copy_recovers_what_its_teacher_knows(
    settings: Settings, tmp_path: Path, kept: Settings
) -> None:
    """Nine tenths of what the damage cost in held-out cross-entropy, four fifths of the divergence."""
    settings |= {
        "tokens": 60 * 8 * SEQ_LEN,
        "batch_tokens": 8 * SEQ_LEN,
        "micro_batch": 8,
        "learning_rate": 1e-2,
    }
    settings |= kept
    distill(settings, tmp_path / "out")
    best, before, after = (
        held_out(Path(path), settings) for path in (settings["teacher"], settings["model"], tmp_path / "out")
    )
    lost = before["validation_loss"] - best["validation_loss"]
    assert lost > 0.1
    assert before["validation_loss"] - after["validation_loss"] > 0.9 * lost
    assert after["validation_kl"] < 0.2 * before["validation_kl"]
    assert best["validation_kl"] < 1e-9


def test_a_student_that_is_its_teacher_has_nothing_to_learn(settings: Settings, tmp_path: Path) -> None:
    distill(settings | {"model": settings["teacher"]}, tmp_path / "out")
    assert abs(logged(tmp_path / "out")[0]["loss"]) < 1e-7


def test_the_figures_of_the_end_are_those_of_the_written_weights(settings: Settings, tmp_path: Path) -> None:
    metrics = distill(settings, tmp_path / "out").result.metrics
    figures = held_out(tmp_path / "out", settings)
    assert {name: metrics[name] for name in figures} == pytest.approx(figures, rel=1e-5)
    assert metrics["steps"] == 10


def test_the_blend_is_in_rows_and_chats_are_trained_where_the_assistant_writes(
    settings: Settings, chats: Path, packed: Path, tmp_path: Path
) -> None:
    reporter = QuietReporter()
    settings |= {"data": [f"{packed}:0.3"], "chats": [f"{chats}:0.7"], "tokens": 50 * 4 * SEQ_LEN}
    distill(settings, tmp_path / "out", reporter)
    read = {m.split(":")[0]: float(m.split()[-2]) for m in reporter.messages if m.startswith("source ")}
    rows = TrainingData(DistillConfig.model_validate(settings).data).row_counts
    of_text = sum(read[f"source packed/{name}"] * count for name, count in rows.items())
    assert of_text == pytest.approx(0.3 * 200, abs=1)
    assert read["source rows/chats"] > 0
    assert (tmp_path / "out" / "chat_template.jinja").is_file()


def test_chats_alone(settings: Settings, chats: Path, tmp_path: Path) -> None:
    settings |= {"data": [], "chats": [str(chats)], "validation_fraction": 0.2}
    metrics = distill(settings, tmp_path / "out").result.metrics
    assert float(metrics["validation_kl"]) > 0


def test_the_cross_entropy_mix(settings: Settings, tmp_path: Path) -> None:
    distill(settings | {"ce_weight": 0.25}, tmp_path / "mixed")
    first = logged(tmp_path / "mixed")[0]
    mixture = 0.75 * first["loss/divergence"] + 0.25 * first["loss/cross_entropy"]
    assert first["loss"] == pytest.approx(mixture, rel=1e-6)
    distill(settings, tmp_path / "pure")
    assert logged(tmp_path / "pure")[0]["loss/divergence"] == first["loss/divergence"]


def test_temperature_changes_what_is_learnt(settings: Settings, tmp_path: Path) -> None:
    for name, temperature in (("a", 1.0), ("b", 2.0)):
        distill(settings | {"temperature": temperature}, tmp_path / name)
    assert content_hash(tmp_path / "a") != content_hash(tmp_path / "b")


def test_a_narrow_teacher_is_nearly_the_wide_one(settings: Settings, tmp_path: Path) -> None:
    distill(settings | {"teacher_dtype": "bfloat16"}, tmp_path / "narrow")
    distill(settings, tmp_path / "wide")
    narrow, wide = (logged(tmp_path / name)[0]["loss"] for name in ("narrow", "wide"))
    assert narrow != wide
    assert narrow == pytest.approx(wide, rel=0.05)


def test_a_student_of_another_shape_learns_from_it(settings: Settings, teacher: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    copy_tokenizer(teacher, small)
    save(randomized(miniature("M-*", vocab_size=512, hidden_size=24)), small)
    distill(settings | {"model": str(small), "tokens": 30 * 4 * SEQ_LEN}, tmp_path / "out")
    losses = [line["loss"] for line in logged(tmp_path / "out")]
    assert losses[-1] < 0.8 * losses[0]


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    unpatched = TrainingLoop._step

    def stop(self: TrainingLoop, *arguments: Any) -> bool:
        if self.counters.step == step:
            self.context.stop.signal_name = "SIGINT"
        return unpatched(self, *arguments)

    monkeypatch.setattr(TrainingLoop, "_step", stop)


@pytest.mark.parametrize("kept", [{}, {"top_k": 8}])
def test_an_interrupted_run_continues_to_the_same_weights(
    settings: Settings, chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: Settings
) -> None:
    settings |= {"data": [f"{settings['data'][0]}:0.3"], "chats": [f"{chats}:0.7"], **kept}
    distill(settings, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(4, patch)
        with pytest.raises(InterruptedRunError):
            distill(settings, tmp_path / "parts")
    distill(settings, tmp_path / "parts")
    assert content_hash(tmp_path / "parts") == content_hash(tmp_path / "whole")
    assert logged(tmp_path / "parts")[0]["loss"] == logged(tmp_path / "whole")[0]["loss"]
    assert not (tmp_path / "parts.run").exists()


def _backward_tokenizer(directory: Path) -> None:
    directory.mkdir()
    save_tokenizer(train_tokenizer(iter([story(n)[::-1] for n in range(50)]), 400), directory)


def _another_tokenizer(folder: Path, settings: Settings) -> None:
    _backward_tokenizer(folder / "teacher")
    save(randomized(miniature("M-*", vocab_size=512)), folder / "teacher")
    settings["teacher"] = str(folder / "teacher")


def _another_vocabulary(folder: Path, settings: Settings) -> None:
    (folder / "teacher").mkdir()
    copy_tokenizer(Path(settings["teacher"]), folder / "teacher")
    save(randomized(miniature("M-*", vocab_size=640)), folder / "teacher")
    settings["teacher"] = str(folder / "teacher")


def _text_of_another_tokenizer(folder: Path, settings: Settings) -> None:
    _backward_tokenizer(folder / "tokenizer")
    settings["data"] = [str(pack(folder, folder / "tokenizer"))]


def _another_length(folder: Path, settings: Settings) -> None:
    settings["seq_len"] = 2 * SEQ_LEN


def _whole_vocabulary(folder: Path, settings: Settings) -> None:
    settings["top_k"] = 512


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_another_tokenizer, r"teacher and student have different tokens: token '.*' is \d+ here and"),
        (_another_vocabulary, "its vocabulary has 640 tokens, that of .* 512"),
        (_text_of_another_tokenizer, "its tokenizer is not the model's: token"),
        (_another_length, "its rows have 64 tokens, not 128"),
        (_whole_vocabulary, "are the whole vocabulary of 512"),
    ],
)
def test_models_and_data_that_do_not_belong_together_are_refused(
    settings: Settings, tmp_path: Path, change: Callable[[Path, Settings], None], message: str
) -> None:
    change(tmp_path, settings)
    with pytest.raises(UsageError, match=message):
        distill(settings, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": []}, "there is nothing to train on"),
        ({"cache": "somewhere"}, "give top_k, too"),
        ({"tokens": 0}, "greater than 0"),
        ({"ce_weight": 1.0}, "less than 1"),
        ({"temperature": 0}, "greater than 0"),
        ({"batch_tokens": 100}, "whole number of micro-batches"),
        ({"warmup_fraction": 0.5, "decay_fraction": 0.9}, "more than 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    settings: Settings, tmp_path: Path, change: Settings, message: str
) -> None:
    with pytest.raises((UsageError, ValueError), match=message) as caught:
        distill(settings | change, tmp_path / "out")
    assert isinstance(caught.value, Nano2Error | ValueError)
    assert list(tmp_path.iterdir()) == []


def poisoned(teacher: Path, folder: Path, value: float) -> Path:
    """The teacher with one huge or missing weight."""
    shutil.copytree(teacher, folder / "teacher")
    (folder / "teacher" / "nano2.json").unlink()
    path = folder / "teacher" / "model.safetensors"
    tensors = load_file(path)
    tensors["backbone.layers.1.mixer.up_proj.weight"][3, 2] = value
    save_file(tensors, path, metadata={"format": "pt"})
    return folder / "teacher"


@pytest.mark.parametrize("kept", [{}, {"top_k": 8}])
@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (float("nan"), ArtifactError, "up_proj.weight holds 1 NaN"),
        (1e38, NotFiniteError, r"the teacher's logits are not finite; .* comes out of backbone\.layers\.1"),
    ],
)
def test_a_teacher_with_nan_is_named(
    settings: Settings,
    teacher: Path,
    tmp_path: Path,
    value: float,
    kind: type[Nano2Error],
    message: str,
    kept: Settings,
) -> None:
    settings |= {"teacher": str(poisoned(teacher, tmp_path, value)), **kept}
    with pytest.raises(kind, match=message):
        distill(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_chats_without_samples_are_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ArtifactError, match="has no samples"):
        distill(settings | {"chats": [str(tmp_path / "empty.jsonl")]}, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_the_plan_counts_the_teacher(
    settings: Settings, chats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings |= {"data": [f"{settings['data'][0]}:0.3"], "chats": [f"{chats}:0.7"]}
    estimate = plan(DistillConfig.model_validate(settings))
    shape = read_config(Path(settings["teacher"]))
    assert estimate.sections["Teacher"]["parameters"] == count_parameters(shape).total
    assert estimate.sections["Memory"]["teacher_weights_bytes"] == 4 * count_parameters(shape).total
    assert estimate.sections["Work"]["teacher_flops"] == 10 * 4 * SEQ_LEN * forward_flops_per_token(
        shape, SEQ_LEN
    )
    shares = [v for name, v in estimate.sections["Data"].items() if name.endswith("(share of the rows)")]
    assert sum(map(float, shares)) == pytest.approx(1, abs=1e-3)
    narrow = plan(DistillConfig.model_validate(settings | {"teacher_dtype": "bfloat16"}))
    assert narrow.peak_bytes is not None
    assert estimate.peak_bytes is not None
    assert narrow.peak_bytes < estimate.peak_bytes
    monkeypatch.setattr(planning, "available_bytes", lambda device: narrow.peak_bytes)
    (refusal,) = plan(DistillConfig.model_validate(settings)).refusals
    assert "the step needs" in refusal


def test_the_plan_counts_what_is_kept(settings: Settings, tmp_path: Path) -> None:
    """Every row once, however often it is read; packed text has a label at nearly every token."""
    settings |= {"top_k": 16, "cache": str(tmp_path / "cache"), "tokens": 100 * 4 * SEQ_LEN}
    estimate = plan(DistillConfig.model_validate(settings))
    kept = estimate.sections["Kept logits"]
    assert kept["bytes_per_token"] == 6 * 16 + 2
    distill(settings, tmp_path / "out")
    shards = list((tmp_path / "cache").rglob("*.safetensors"))
    written = sum(path.stat().st_size for path in shards)
    assert written == pytest.approx(float(kept["cache_bytes"]), rel=0.15)
    assert "teacher_weights_bytes" not in estimate.sections["Memory"]


def test_the_provenance_names_the_teacher(settings: Settings, tmp_path: Path) -> None:
    distill(settings, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "nano2.json").read_text())
    assert sorted(parent["kind"] for parent in told["parents"]) == ["dataset", "model", "model"]
    assert told["metrics"]["validation_kl"] > 0
    assert load(tmp_path / "out").lm_head.weight.dtype == torch.float32
