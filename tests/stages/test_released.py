"""The released checkpoints: every stage plans with them as they are, and runs on twins of them with random weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from model.artifact.provenance import read_provenance
from model.config import HybridConfig
from model.counting import count_parameters
from model.loading import load, read_config
from stages.common.harness import run_stage
from stages.common.plan import Plan
from stages.common.reporter import QuietReporter
from stages.common.stage import StageOutcome, load_target
from tests.model.released.twins import (
    DIALECTS,
    RELEASED,
    Dialect,
    cut_down,
    foreign,
    hollow,
    in_dialect,
    released,
)
from tests.stages.common.data.helpers import story
from tests.stages.conftest import prepared
from tests.stages.serve.running import running

BILLIONS = {"nano-12b-v2": 12.310, "nano-9b-v2": 8.888, "nemotron-h-8b": 8.101}
PRESETS = {"nano-12b-v2": "nano2-12b", "nano-9b-v2": "nano2-9b", "nemotron-h-8b": "nemotron-h-8b"}


def planned(stage: str, **settings: Any) -> Plan:
    target = load_target(f"stages.{stage}.stage:STAGE")
    plan = target.call_plan(target.config.model_validate(settings))
    assert plan is not None
    return plan


def ran(stage: str, out: Path | None, **settings: Any) -> StageOutcome:
    target = load_target(f"stages.{stage}.stage:STAGE")
    config = target.config.model_validate(settings)
    return run_stage(target, config, out=out, reporter=QuietReporter(), command=["nano2", stage])


# ---- config.json ----


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", RELEASED)
def test_a_config_reads_in_every_dialect(name: str, dialect: Dialect) -> None:
    config = HybridConfig.from_hf(in_dialect(released(name), dialect))
    assert round(count_parameters(config).total / 1e9, 3) == BILLIONS[name]
    preset = HybridConfig.preset(PRESETS[name])
    own = {"max_position_embeddings", "eos_token_id", "pad_token_id"}
    assert config.model_dump(exclude=own) == preset.model_dump(exclude=own)


@pytest.mark.parametrize("name", RELEASED)
def test_a_config_says_where_it_is_from(name: str) -> None:
    assert len(released(name)["_from"]) > 100


# ---- plans ----


@pytest.fixture(scope="module")
def whole(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    made = {name: hollow(released(name), folder / name) for name in RELEASED}
    for directory in made.values():
        for file in tokenizer_directory.iterdir():
            shutil.copy(file, directory)
    return made


@pytest.mark.parametrize("name", RELEASED)
def test_stages_plan_with_the_whole_model(name: str, whole: dict[str, Path], tmp_path: Path) -> None:
    """Some of them refuse on a machine that is small, and say how much they would take."""
    model, parameters = str(whole[name]), count_parameters(HybridConfig.preset(PRESETS[name])).total

    prune = planned("prune", model=model, data=["packed"], planned_seq_len=8192, layers=[46], samples=16)
    assert prune.sections["Model"]["parameters"] == parameters
    assert prune.sections["Work"]["row_tokens"] == 8192

    merge = planned("merge", model=[model, model], alpha=0.5)
    assert merge.sections["Parameters"]["total"] == parameters
    assert merge.disk_bytes == 2 * parameters

    evaluation = planned("eval", model=model, tasks=["nano2_arc_easy"], limit=2, dtype="bfloat16")
    assert evaluation.sections["Memory"]["weights_bytes"] == 2 * parameters

    serve = planned("serve", model=model, slots=2)
    assert serve.sections["Memory"]["weights_bytes"] == 2 * parameters
    assert serve.sections["A slot"]["tokens"] == released(name)["max_position_embeddings"]

    verify = planned("verify", model=model)
    assert verify.sections["model"]["parameters"] == parameters

    chats = tmp_path / "chats.jsonl"
    line = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
    chats.write_text(json.dumps(line) + "\n")
    sft = planned(
        "sft", model=model, data=[str(chats)], seq_len=1024, batch_tokens=1024, precision="bfloat16"
    )
    assert sft.sections["Parameters"]["total"] == parameters


def test_key_value_cache_of_the_9b_is_the_reports(whole: dict[str, Path]) -> None:
    slot = planned("serve", model=str(whole["nano-9b-v2"]), slots=1).sections["A slot"]
    assert slot["kv_cache_bytes"] == 2 * 2**30  # 16 KiB a token


# ---- twins ----


@pytest.fixture(scope="module")
def packed(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    return prepared(folder, tokenizer_directory, {"web": [story(number, 40) for number in range(20)]})


def chain(model: Path, other: Path, text: Path, folder: Path) -> None:
    """verify, prune, merge, eval and serve, each as a user runs it on a directory that nano2 did not make."""
    assert read_provenance(model) is None
    shape = read_config(model)

    checked = ran("verify", None, model=str(model), tokens=48, decode_steps=4)
    assert checked.result.failure is None

    narrower = {"hidden": [shape.hidden_size - 8], "layers": [shape.num_hidden_layers - 1]}
    settings = {"model": str(model), "data": [str(text)], "samples": 2, "keep_attention": 1}
    ran("prune", folder / "pruned", **settings, **narrower, learning_rate=1e-3)
    pruned = read_config(folder / "pruned")
    assert (pruned.hidden_size, pruned.num_hidden_layers) == (
        shape.hidden_size - 8,
        shape.num_hidden_layers - 1,
    )
    assert ran("verify", None, model=str(folder / "pruned"), tokens=48, decode_steps=4).result.failure is None

    ran("merge", folder / "merged", model=[str(model), str(other)], alpha=0.5)
    first, second, merged = load(model), load(other), load(folder / "merged")
    key = "backbone.layers.0.mixer.out_proj.weight"
    half = (first.state_dict()[key].double() + second.state_dict()[key].double()) / 2
    torch.testing.assert_close(merged.state_dict()[key].double(), half, rtol=2**-8, atol=0)

    measured = ran("eval", folder / "eval", model=str(model), tasks=["nano2_arc_easy"], limit=2)
    assert 0 <= float(measured.result.rows[0]["value"]) <= 1

    with running(folder / "merged", slots=1) as server:
        completion = server.client().completions.create(
            model="merged", prompt="The river", max_tokens=4, temperature=0
        )
        assert completion.usage is not None
        assert 1 <= completion.usage.completion_tokens <= 4


def twins(raw: dict[str, Any], folder: Path, tokenizer: Path, dialect: Dialect) -> tuple[Path, Path]:
    made = foreign(raw, folder / "model", tokenizer, dialect=dialect)
    return made, foreign(raw, folder / "other", tokenizer, dialect=dialect, seed=1)


@pytest.mark.parametrize(("name", "dialect"), list(zip(RELEASED, DIALECTS, strict=True)))
def test_small_twins_pass_through_the_stages(
    name: str, dialect: Dialect, tokenizer_directory: Path, packed: Path, tmp_path: Path
) -> None:
    """An eighth of every width: proportions, heads and groups are the released ones."""
    raw = cut_down(released(name), divisor=8, vocabulary=448)
    model, other = twins(raw, tmp_path, tokenizer_directory, dialect)
    chain(model, other, packed, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "dialect"), list(zip(RELEASED, reversed(DIALECTS), strict=True)))
def test_twins_of_real_width_pass_through_the_stages(
    name: str, dialect: Dialect, tokenizer_directory: Path, packed: Path, tmp_path: Path
) -> None:
    """One block of each kind at its real widths, and a vocabulary of 448: 0.3 to 0.45 billion parameters."""
    raw = cut_down(released(name), divisor=1, vocabulary=448, pattern="M*-M")
    model, other = twins(raw, tmp_path, tokenizer_directory, dialect)
    chain(model, other, packed, tmp_path)
