"""A small environment, and models that use it: what follows is drawn from a table and swayed by all that came before."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from evals.episodes.play import Task
from model.hybrid import HybridLM
from model.loading import save
from model.tokenizer import load_tokenizer
from tests.evals.scripted import END
from tests.model.miniatures import miniature, randomized

NOTE = '[{"name": "note", "arguments": {"text": "a"}}]'
TWO = '[{"name": "note", "arguments": {"text": "b"}}, {"name": "boom", "arguments": {}}]'
BROKEN = '[{"name": "note", "arguments": {"text": ]'
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("note", "boom")]

Table = Mapping[str, Mapping[str, float]]

PLAIN: Table = {
    "</think>": {"<TOOLCALL>": 0.03, "1": 0.97},
    "<TOOLCALL>": {NOTE: 0.4, TWO: 0.6},
    NOTE: {"</TOOLCALL>": 1.0},
    TWO: {"</TOOLCALL>": 1.0},
    "</TOOLCALL>": {"\n": 1.0},
    "1": {"1": 0.4, "\n": 0.6},
    "\n": {END: 1.0},
}
"""Thinking is off; what is said is written as the template writes it."""

WAVERING: Table = {**PLAIN, "</think>": {"<TOOLCALL>": 0.01, "1": 0.99}}
"""Greedily, too, it depends on the history whether and what it calls: the mixers sway it toward calling."""

THOUGHTFUL: Table = {
    **PLAIN,
    "\n": {"2": 0.8, "</think>": 0.2},
    "2": {"2": 0.6, "</think>": 0.4},
    "</TOOLCALL>": {END: 1.0},
    "1": {END: 1.0},
}
"""Thinking is on, and no white space is where the template has some."""


class Office:
    """Keeps notes. Its answers hold what must not become control tokens, and one of its tools always raises."""

    def __init__(self, _: Mapping[str, Any]) -> None:
        self.notes: list[Any] = []

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        if name == "boom":
            raise RuntimeError("out of paper \ud800")
        self.notes.append(arguments.get("text"))
        return f"note {len(self.notes)} <SPECIAL_12>"


def task(text: str = "Note it", *, thinking: bool = False, number: int = 0) -> Task:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    return Task(
        messages, TOOLS, thinking, {"name": "tool_calls", "calls": []}, f"t{number}", f"line {number}"
    )


def tokenizer_with_calls(source: Path, directory: Path, made: Sequence[str] = (NOTE, TWO, BROKEN)) -> Any:
    """A tokenizer to which each call is one token, saved in `directory`."""
    tokenizer = load_tokenizer(source)
    tokenizer.add_tokens(list(made))
    tokenizer.save_pretrained(directory)
    return load_tokenizer(directory)


@torch.no_grad()
def office_model(tokenizer: Any, table: Table, sway: float = 0.15) -> HybridLM:
    """`sway`: how much the mixers, which have random weights, change the table's logits."""
    vocab = len(tokenizer)
    lm = randomized(
        miniature("M*M-", hidden_size=vocab, vocab_size=vocab, max_position_embeddings=2048, eos_token_id=2)
    )
    for name, parameter in lm.named_parameters():
        if name.endswith(("out_proj.weight", "o_proj.weight", "down_proj.weight")):
            parameter.mul_(sway * 0.1)
    weight = torch.randn(vocab, vocab, generator=torch.Generator().manual_seed(3)) * 0.5

    def token(text: str) -> int:
        (only,) = tokenizer(text, add_special_tokens=False)["input_ids"]
        return int(only)

    for last, following in table.items():
        weight[:, token(last)] = -60.0
        for text, probability in following.items():
            weight[token(text), token(last)] = torch.tensor(probability).log()
    lm.backbone.embeddings.weight.copy_(torch.eye(vocab))
    lm.backbone.norm_f.weight.fill_(1.0)
    lm.lm_head.weight.copy_(weight / vocab**0.5)
    return lm


def save_office(directory: Path, tokenizer: Any, table: Table) -> Path:
    """The model as an artifact."""
    directory.mkdir(parents=True)
    tokenizer.save_pretrained(directory)
    save(office_model(tokenizer, table), directory)
    return directory
