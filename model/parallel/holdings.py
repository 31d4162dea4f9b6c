"""How many parameters a rank holds, and how many of them come and go, before any tensor exists."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from model.config import HybridConfig
from model.hybrid import Block
from model.parallel.shape import MeshShape
from model.parallel.shards import stays_whole
from model.parallel.tensor import refuse_uneven, splits


@dataclass(frozen=True)
class Holdings:
    """Numbers of parameters.

    held: of the rank that holds most, as `Mesh.spread` leaves it. block: of the largest block's matrices, as a rank gathers
    them. root: of embeddings and head, likewise.
    """

    held: int
    block: int
    root: int


@lru_cache
def holdings(config: HybridConfig, mesh: MeshShape) -> Holdings:
    """UsageError if tensor ranks cannot hold equal parts."""
    if mesh.tensor > 1:
        refuse_uneven(config, mesh.tensor)
    cuts = splits(config) if mesh.tensor > 1 else {}
    root = 2 * config.vocab_size * config.hidden_size
    held = 2 * _rows(config.vocab_size, mesh) * config.hidden_size + config.hidden_size
    largest = 0
    for letter in set(config.pattern):
        number = config.pattern.index(letter)
        with torch.device("meta"):
            block = Block(config, letter)
        gathered = 0
        for name, parameter in block.named_parameters():
            sizes = list(parameter.shape)
            if cut := cuts.get(f"backbone.layers.{number}.{name}"):
                sizes[cut.dim] //= mesh.tensor
            whole = stays_whole(name, parameter)
            first, rest = sizes[0], math.prod(sizes[1:])
            held += config.pattern.count(letter) * (first if whole else _rows(first, mesh)) * rest
            gathered += 0 if whole else first * rest
        largest = max(largest, gathered)
    return Holdings(held, largest, root)


def _rows(rows: int, mesh: MeshShape) -> int:
    """Of a sharded parameter: ranks hold equally many, filled up at the last ones."""
    return -(-rows // mesh.sharding)
