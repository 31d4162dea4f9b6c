"""A model that knows little and prompts with graders, on which a GRPO run takes seconds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.loading import save
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageOutcome
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer
from stages.grpo.stage import STAGE
from tests.model.miniatures import miniature, randomized
from tests.stages.common.data.helpers import story

Settings = dict[str, Any]
Grpo = Callable[..., StageOutcome]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of every kind of block, with a tokenizer that has the chat template."""
    directory = tmp_path_factory.mktemp("model")
    save_tokenizer(train_tokenizer(iter([story(number) for number in range(50)]), 400), directory)
    save(randomized(miniature("M-M*-", vocab_size=400, hidden_size=48)), directory)
    return directory


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def question(number: int) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": f"Say something, {number}."}],
        "grader": {"name": "instructions", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
        "thinking": False,
        "id": f"q{number}",
    }


@pytest.fixture
def settings(model: Path, tmp_path: Path) -> Settings:
    return settings_in(tmp_path, model)


def settings_in(folder: Path, model: Path) -> Settings:
    """Of a short run; its prompts are written to the folder."""
    return {
        "model": str(model),
        "data": [str(write(folder / "prompts.jsonl", [question(number) for number in range(7)]))],
        "rewards": [
            {"kind": "grader", "part": "prompt_strict"},
            {"kind": "length", "max_tokens": 8, "buffer": 8},
        ],
        "steps": 6,
        "prompts": 2,
        "samples": 4,
        "seq_len": 96,
        "max_tokens": 8,
        "micro_batch": 1,
        "learning_rate": 1e-3,
        "tensorboard": False,
        "device": "cpu",
    }


@pytest.fixture
def grpo(settings: Settings) -> Grpo:
    """Run the stage with other settings."""

    def run(out: Path, reporter: QuietReporter | None = None, **changes: Any) -> StageOutcome:
        return run_grpo(settings | changes, out, reporter)

    return run


def run_grpo(settings: Settings, out: Path, reporter: QuietReporter | None = None) -> StageOutcome:
    config = STAGE.config.model_validate(settings)
    return run_stage(STAGE, config, out=out, reporter=reporter or QuietReporter(), command=["nano2", "grpo"])


def logged(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
