"""Every Python block of README.md and docs/*.md runs, and what it imports is there."""

import ast
import importlib
import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from evals.chat_lines import read_chat
from evals.episodes.play import EpisodeSettings, Task, play
from model import HybridConfig, load
from model.chat.parsers import parse
from model.inference.stopping import stop_token_ids
from model.tokenizer import load_tokenizer
from tests.docs.commands import Block, blocks
from tests.docs.test_commands import shared, world
from tests.docs.world import World, kind_of
from tests.stages.serve.running import running

__all__ = ["shared", "world"]

CONTRACTS = "plan.md"
"""Declarations of what was to be built, not code to run."""

SERVER = "http://127.0.0.1:8000"
"""What a block speaks to as `nano2 serve -m artifacts/chat`."""

PYTHON = [block for block in blocks() if block.language == "python" and block.page.name != CONTRACTS]


def imports(block: Block) -> list[tuple[str, str | None]]:
    """(module, name) of everything that a block imports."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.module, alias.name) for alias in node.names]
    return found


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_what_a_block_imports_is_there(block: Block) -> None:
    for module, name in imports(block):
        imported = importlib.import_module(module)
        assert name is None or hasattr(imported, name) or importlib.util.find_spec(f"{module}.{name}")


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_a_block_runs(block: Block, world: World) -> None:
    """With the artifacts that it opens, and what the page has spoken of before it (GIVEN)."""
    for name in dict.fromkeys(re.findall(r'"(artifacts/[\w./-]+)"', block.text)):
        world.provide(Path(name), kind_of(name))
    used = {node.id for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.Name)}
    given = Given(world)
    names: dict[str, Any] = {name: getattr(given, name) for name in used if hasattr(Given, name)}
    if SERVER not in block.text:
        exec(compile(block.text, block.name, "exec"), names)
        return
    world.provide(Path("artifacts/chat"), "model")
    with running(Path("artifacts/chat")) as server:
        exec(compile(block.text.replace(SERVER, server.url), block.name, "exec"), names)


class Given:
    """What a page says in words, by the name that its code uses."""

    def __init__(self, world: World) -> None:
        self.world = world

    @property
    def directory(self) -> Path:
        directory = Path("artifacts/given")
        if not directory.exists():
            self.world.provide(directory, "model")
        return directory

    @property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.directory)

    @property
    def lm(self) -> Any:
        return load(self.directory)

    @property
    def ids(self) -> list[int]:
        """A prompt that ends inside of the thinking."""
        ids: list[int] = self.tokenizer("What of the mill?<think>\n")["input_ids"]
        return ids

    @property
    def input_ids_BT(self) -> torch.Tensor:
        return torch.tensor([[1, 40, 41, 42]])

    @property
    def document_ids_BT(self) -> torch.Tensor:
        return torch.tensor([[0, 0, 1, 1]])

    @property
    def prompt_1T(self) -> torch.Tensor:
        return torch.tensor([[1, 40, 41]])

    @property
    def next_11(self) -> torch.Tensor:
        return torch.tensor([[42]])

    @property
    def config(self) -> dict[str, Any]:
        return HybridConfig.preset("tiny").to_hf(dtype="bfloat16")

    @property
    def text(self) -> str:
        return "Two and two.\n</think>\n\n4"

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [{"role": "user", "content": "2 + 2?"}]

    @property
    def response(self) -> Any:
        return parse(r"So \boxed{6/8}", thinking=False)

    @property
    def episodes(self) -> Any:
        self.world.provide(Path("given.jsonl"), "chats")
        tasks = [Task.of(sample) for sample in read_chat(Path("given.jsonl"))][:2]
        stop = stop_token_ids(self.directory, self.lm.config, self.tokenizer, chat=True)
        return play(
            self.lm,
            self.tokenizer,
            stop,
            [(task, 0) for task in tasks],
            EpisodeSettings(max_tokens=8, max_turns=1),
        )

    @property
    def evaluation(self) -> Any:
        asked = {"task": "nano2_ruler_vt", "length": 4096, "depths": [0.5], "answers": ["7"]}
        items = [{"doc": asked, "filtered_resps": ["7"]}]
        return SimpleNamespace(samples={"nano2_ruler_vt": items})
