"""Stand-ins for the released checkpoints: config.json as it is and holes for weights, or cut down with random weights."""

import json
import struct
from pathlib import Path
from typing import Any, Literal

import torch

from model.config import HybridConfig
from model.hybrid import HybridLM
from model.loading import save
from model.tokenizer import copy_tokenizer
from tests.model.miniatures import randomized

FOLDER = Path(__file__).parent
RELEASED = ("nano-12b-v2", "nano-9b-v2", "nemotron-h-8b")

Dialect = Literal["pattern", "names", "old-names"]
DIALECTS: tuple[Dialect, ...] = ("pattern", "names", "old-names")
_NAMES: dict[Dialect, dict[str, str]] = {
    "names": {"M": "linear_attention", "*": "full_attention", "-": "mlp"},
    "old-names": {"M": "mamba", "*": "attention", "-": "mlp"},
}

BLOCKS = "MM-M*-"
"""Of a twin: every kind of block, and attention right before an MLP."""


def released(name: str) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return raw


def in_dialect(raw: dict[str, Any], dialect: Dialect) -> dict[str, Any]:
    """The same config with its blocks as a string, or as a list of the names of transformers 5 or of older programs."""
    if dialect == "pattern":
        return raw
    others = {
        key: value
        for key, value in raw.items()
        if key not in ("hybrid_override_pattern", "num_hidden_layers")
    }
    return others | {
        "layers_block_type": [_NAMES[dialect][letter] for letter in raw["hybrid_override_pattern"]]
    }


def cut_down(raw: dict[str, Any], *, divisor: int, vocabulary: int, pattern: str = BLOCKS) -> dict[str, Any]:
    """Fewer blocks and a small vocabulary; widths over the divisor, so that their proportions stay.

    Kept as they are: numbers of heads and groups, the convolution, the end of turn, every other setting; by 1 all widths.
    """
    # attention_head_dim stays: transformers does not read it, and takes 128 as it is by default
    widths = ("hidden_size", "intermediate_size", "mamba_head_dim", "ssm_state_size", "head_dim")
    cut = {key: raw[key] // divisor for key in widths if key in raw}
    blocks = {"hybrid_override_pattern": pattern, "num_hidden_layers": len(pattern)}
    return raw | cut | blocks | {"vocab_size": vocabulary}


def foreign(
    raw: dict[str, Any], directory: Path, tokenizer: Path, *, dialect: Dialect = "pattern", seed: int = 0
) -> Path:
    """A checkpoint as others write it: bfloat16, no nano2.json, config.json with all that is in `raw`."""
    directory.mkdir()
    lm = randomized(HybridConfig.from_hf(raw), seed=seed, dtype=torch.bfloat16)
    save(lm, directory)
    copy_tokenizer(tokenizer, directory)
    write_config(raw, directory, dialect)
    return directory


def hollow(raw: dict[str, Any], directory: Path) -> Path:
    """A checkpoint of full size that takes no space: names and shapes of all tensors, and nothing behind them."""
    directory.mkdir()
    with torch.device("meta"):
        state = HybridLM(HybridConfig.from_hf(raw), initialize=False).state_dict()
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key in sorted(state):
        start, end = end, end + 2 * state[key].numel()
        header[key] = {"dtype": "BF16", "shape": list(state[key].shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (directory / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    write_config(raw, directory, "pattern")
    return directory


def write_config(raw: dict[str, Any], directory: Path, dialect: Dialect) -> None:
    (directory / "config.json").write_text(json.dumps(in_dialect(raw, dialect)))
