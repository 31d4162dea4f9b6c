import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model import load
from model.artifact.hashing import content_hash
from model.errors import InterruptedRunError, UsageError
from model.loading import read_config
from model.tokenizer import load_tokenizer
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageOutcome
from stages.common.training.loop import TrainingLoop
from stages.data.stage import PREPARE
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer
from stages.extend_context.plan import plan
from stages.extend_context.stage import STAGE
from stages.pretrain.stage import STAGE as PRETRAIN
from tests.stages.common.data.helpers import story

LONG = 128


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two texts, and a model pretrained on rows of 32 tokens of one of them."""
    folder = tmp_path_factory.mktemp("chain")
    save_tokenizer(train_tokenizer(iter([story(n) for n in range(50)]), 400), _made(folder / "tokenizer"))
    for name, texts in {
        "books": [story(n) for n in range(60)],
        "long": [story(n) * 9 for n in range(12)],
    }.items():
        lines = [json.dumps({"text": text}) + "\n" for text in texts]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    prepare(folder, "books", 32)
    prepare(folder, "books", LONG)
    prepare(folder, "long", LONG)
    settings = {
        "data": [str(folder / "books-32")],
        "preset": "tiny",
        "tokens": 8 * 256,
        "batch_tokens": 256,
        "micro_batch": 8,
        "learning_rate": 2e-3,
        "final_learning_rate": 3e-4,
        "shape": {"max_position_embeddings": 32},
        "tensorboard": False,
        "device": "cpu",
    }
    config = PRETRAIN.config.model_validate(settings)
    run_stage(PRETRAIN, config, out=folder / "base", reporter=QuietReporter(), command=["nano2"])
    return folder


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def prepare(folder: Path, name: str, seq_len: int) -> None:
    config = PREPARE.config.model_validate(
        {
            "data": [str(folder / f"{name}.jsonl")],
            "tokenizer": str(folder / "tokenizer"),
            "seq_len": seq_len,
            "validation_fraction": 0.1,
            "duplicates": "keep",
            "workers": 1,
        }
    )
    run_stage(PREPARE, config, out=folder / f"{name}-{seq_len}", reporter=QuietReporter(), command=["nano2"])


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "model": str(folder / "base"),
        "data": [f"{folder / f'books-{LONG}'}:0.8", f"{folder / f'long-{LONG}'}:0.2"],
        "tokens": 10 * 256,
        "log_every": 1,
        "tensorboard": False,
        "device": "cpu",
    } | changes


def extend(values: dict[str, Any], out: Path, reporter: QuietReporter | None = None) -> StageOutcome:
    config = STAGE.config.model_validate(values)
    return run_stage(STAGE, config, out=out, reporter=reporter or QuietReporter(), command=["nano2"])


def logged(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def test_rate_and_batch_are_those_of_pretraining_and_the_declared_length_grows(
    folder: Path, tmp_path: Path
) -> None:
    reporter = QuietReporter()
    outcome = extend(settings(folder), tmp_path / "long", reporter)
    lines = logged(tmp_path / "long")
    assert {line["learning_rate"] for line in lines} == {3e-4}
    assert [line["tokens"] for line in lines] == [256 * (step + 1) for step in range(10)]
    assert read_config(folder / "base").max_position_embeddings == 32
    assert read_config(tmp_path / "long").max_position_embeddings == LONG
    load_tokenizer(tmp_path / "long", 400)
    total = 0
    for name in ("books", "long"):
        counts = json.loads((folder / f"{name}-{LONG}" / "dataset.json").read_text())["sources"][name]
        said = f"{counts['cut_documents']} of {counts['documents']} documents were longer than a row and cut"
        assert any(f"/{name}: {said}" in message for message in reporter.messages)
        total += counts["cut_documents"]
    assert outcome.result.metrics["cut_documents"] == total > 0


def test_the_blend_is_80_to_20(folder: Path, tmp_path: Path) -> None:
    reporter = QuietReporter()
    extend(settings(folder, tokens=50 * 256), tmp_path / "long", reporter)
    rows = {
        name: json.loads((folder / f"{name}-{LONG}" / "dataset.json").read_text())["sources"][name]["rows"]
        for name in ("books", "long")
    }
    read = {m.split("/")[1].split(":")[0]: float(m.split()[-2]) for m in reporter.messages if " read " in m}
    assert read["books"] * rows["books"] == pytest.approx(80, abs=1)
    assert read["long"] * rows["long"] == pytest.approx(20, abs=1)


def test_training_begins_with_the_models_weights(folder: Path, tmp_path: Path) -> None:
    extend(settings(folder, learning_rate=1e-12, weight_decay=0), tmp_path / "same")
    base, same = load(folder / "base"), load(tmp_path / "same")
    for (name, mine), (_, theirs) in zip(base.named_parameters(), same.named_parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)


def test_a_tokenizer_that_names_a_shorter_length_is_corrected(folder: Path, tmp_path: Path) -> None:
    import shutil

    model = tmp_path / "limited"
    shutil.copytree(folder / "base", model)
    (model / "nano2.json").unlink()
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 32}))
    extend(settings(folder, model=str(model), batch_tokens=256, learning_rate=1e-4), tmp_path / "long")
    assert load_tokenizer(tmp_path / "long", 400).model_max_length == LONG


def test_a_model_that_does_not_say_how_it_was_trained_needs_the_settings(
    folder: Path, tmp_path: Path
) -> None:
    import shutil

    model = tmp_path / "foreign"
    shutil.copytree(folder / "base", model)
    (model / "nano2.json").unlink()
    with pytest.raises(UsageError) as caught:
        extend(settings(folder, model=str(model)), tmp_path / "long")
    assert "--batch-tokens" in caught.value.remedy
    with pytest.raises(UsageError) as caught:
        extend(settings(folder, model=str(model), batch_tokens=256), tmp_path / "long")
    assert "--learning-rate" in caught.value.remedy


def test_data_of_another_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    other = _made(tmp_path / "other")
    save_tokenizer(
        train_tokenizer(iter(["zebra quagga okapi"] * 50 + [story(3)]), 300), _made(other / "tokenizer")
    )
    (other / "books.jsonl").write_text((folder / "books.jsonl").read_text())
    prepare(other, "books", LONG)
    with pytest.raises(UsageError, match="tokenizer is not the model's: token"):
        extend(settings(folder, data=[str(other / f"books-{LONG}")]), tmp_path / "long")


def test_an_interrupted_run_continues_to_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extend(settings(folder), tmp_path / "whole")
    step = TrainingLoop._step

    def stop_after_four(self: TrainingLoop, *arguments: Any) -> bool:
        if self.counters.step == 4:
            self.context.stop.signal_name = "SIGINT"
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", stop_after_four)
        with pytest.raises(InterruptedRunError):
            extend(settings(folder), tmp_path / "parts")
    extend(settings(folder), tmp_path / "parts")
    assert content_hash(tmp_path / "parts") == content_hash(tmp_path / "whole")


def test_the_plan_tells_rate_cuts_and_work(folder: Path) -> None:
    estimate = plan(STAGE.config.model_validate(settings(folder)))
    assert estimate.sections["Work"]["tokens"] == 10 * 256
    assert estimate.sections["Data"]["learning_rate"] == 3e-4
    assert any("documents cut" in name for name in estimate.sections["Data"])
