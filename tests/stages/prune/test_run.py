from pathlib import Path
from typing import Any

import pytest

from model.artifact.hashing import content_hash
from model.errors import UsageError
from model.loading import load, read_config
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageResult
from stages.prune.stage import STAGE
from stages.verify.stage import STAGE as VERIFY

Settings = dict[str, Any]


def prune(settings: Settings, out: Path) -> StageResult:
    config = STAGE.config.model_validate(settings)
    return run_stage(STAGE, config, out=out, reporter=QuietReporter(), command=["nano2"]).result


def verify(model: Path) -> None:
    """Raises unless transformers computes the same."""
    config = VERIFY.config.model_validate({"model": str(model), "tokens": 64})
    result = run_stage(VERIFY, config, out=None, reporter=QuietReporter(), command=["nano2"]).result
    if result.failure is not None:
        raise result.failure


def test_one_shape_is_cut_and_its_importance_serves_again(settings: Settings, tmp_path: Path) -> None:
    result = prune(settings, tmp_path / "small")
    config = read_config(tmp_path / "small")
    sizes = (config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.mamba_num_heads)
    assert sizes == (4, 40, 48, 2)
    assert sum(p.numel() for p in load(tmp_path / "small").parameters()) == result.metrics["params"]
    assert len(result.rows) == 1
    assert result.metrics["validation_loss"] != result.metrics["model_validation_loss"]
    verify(tmp_path / "small")

    again = {key: value for key, value in settings.items() if key not in ("data", "samples", "sample_batch")}
    prune(again | {"importance": str(tmp_path / "small/prune/importance.safetensors")}, tmp_path / "again")
    for name in ("model.safetensors", "config.json", "prune/importance.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "small" / name).read_bytes()
    assert not (tmp_path / "again.run").exists()


def test_a_search_keeps_the_best_of_what_it_tried(settings: Settings, tmp_path: Path) -> None:
    search = {
        "hidden": "32..48:8",
        "ffn": "40..56:8",
        "parameters": "65k",
        "top_k": 2,
        "distill_tokens": 4096,
    }
    search |= {"batch_tokens": 512, "learning_rate": 3e-3, "layers": 5, "mamba_heads": 4}
    result = prune(settings | search, tmp_path / "small")
    tried = result.rows
    assert [row["rank"] for row in tried] == [1, 2]
    assert tried[0]["params"] >= tried[1]["params"]
    assert all(row["params"] <= 65_000 for row in tried)
    (kept,) = (row for row in tried if row["kept"])
    assert kept["validation_loss"] == min(row["validation_loss"] for row in tried)
    assert {"validation_kl", "tok_per_s", "speedup"} <= kept.keys()
    config = read_config(tmp_path / "small")
    assert (config.hidden_size, config.intermediate_size) == (kept["hidden"], kept["ffn"])
    assert result.metrics["validation_loss"] == kept["validation_loss"]
    verify(tmp_path / "small")

    as_cut = prune(settings | search | {"distill_tokens": 0}, tmp_path / "cut").rows
    for before, after in zip(as_cut, tried, strict=True):
        assert after["validation_loss"] < before["validation_loss"]


def test_the_depth_is_chosen_first_then_the_width(settings: Settings, tmp_path: Path) -> None:
    search = {"layers": "3,4", "hidden": "40,48", "ffn": (), "mamba_heads": (), "top_k": 1}
    rows = prune(settings | search, tmp_path / "small").rows
    deep, wide = rows[:2], rows[2:] or rows[:2]
    assert [row["layers"] for row in deep] == [4, 3]
    best = min(deep, key=lambda row: row["validation_loss"])
    assert {row["layers"] for row in wide if row["kept"]} == {best["layers"]}
    # the whole widths are the largest shape of their depth, too: one trial serves both
    assert sum(row["kept"] for row in rows) == 1


def test_shapes_that_are_given_are_tried_whatever_their_rank(settings: Settings, tmp_path: Path) -> None:
    named = {"layers": 4, "hidden": "32..48:8", "ffn": (), "mamba_heads": ()}
    shapes = ["layers=4,hidden=32", {"layers": 4, "hidden": 40, "mamba_heads": 2}]
    rows = prune(settings | named | {"shapes": shapes}, tmp_path / "small").rows
    assert [(row["hidden"], row["mamba_heads"]) for row in rows] == [(32, 4), (40, 2)]
    assert rows[0]["rank"] == 4


def test_bfloat16_stays_unless_it_is_asked_otherwise(settings: Settings, model: Path, tmp_path: Path) -> None:
    import torch

    prune(settings | {"dtype": "bfloat16"}, tmp_path / "half")
    assert load(tmp_path / "half").lm_head.weight.dtype == torch.bfloat16
    assert load(model).lm_head.weight.dtype == torch.float32


def test_trials_are_ranked_by_an_evaluation(settings: Settings, tmp_path: Path) -> None:
    search = {"ffn": "48,56", "evaluation": {"tasks": "nano2_arc_easy,nano2_piqa", "limit": 8}}
    result = prune(settings | search, tmp_path / "small")
    for row in result.rows:
        assert row["score"] == pytest.approx((row["nano2_arc_easy/acc"] + row["nano2_piqa/acc"]) / 2)
    (kept,) = (row for row in result.rows if row["kept"])
    assert kept["score"] == max(row["score"] for row in result.rows)


def test_the_same_settings_give_the_same_model(settings: Settings, tmp_path: Path) -> None:
    search = settings | {"ffn": "48,56", "distill_tokens": 1024}
    hashes = set()
    for name in ("one", "two"):
        prune(search, tmp_path / name)
        hashes.add(content_hash(tmp_path / name))
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"layers": (), "hidden": (), "ffn": (), "mamba_heads": ()}, "nothing is asked to go"),
        ({"data": []}, "importance is measured on data"),
        ({"data": [], "importance": "x", "distill_tokens": 10}, "needs data"),
        ({"data": [], "importance": "x", "ffn": "48,56"}, "compared on held-out data"),
    ],
)
def test_settings_that_contradict_each_other(settings: Settings, changed: Settings, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        STAGE.config.model_validate(settings | changed)


def test_a_shape_that_the_model_cannot_have(settings: Settings, tmp_path: Path) -> None:
    for changed, complaint in (
        ({"hidden": 56}, "hidden 56 is not within 1 to 48"),
        ({"mamba_heads": 3}, "mamba_heads 3 is no multiple of the model's 2 groups"),
        ({"keep_attention": 2}, "2 blocks of kind '\\*' are to be kept; the model has 1"),
        ({"layers": 2, "keep_mamba": 2, "keep_attention": 1}, "3 blocks are to be kept by kind, and only 2"),
    ):
        with pytest.raises(UsageError, match=complaint):
            prune(settings | changed, tmp_path / "small")
    assert list(tmp_path.iterdir()) == []
