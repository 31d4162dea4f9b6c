"""From a sequence counter to tensors: the rows of one or more packed datasets in their blended order.

Shapes: B sequences, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.errors import UsageError
from model.loss import IGNORED, next_token_labels
from stages.common.config import WeightedPath
from stages.common.data.blending import BlendedOrder
from stages.common.data.packed_dataset import PackedDataset, PackedRows
from stages.common.data.packing import Row


@dataclass(frozen=True)
class Batch:
    """`labels_BT` are next tokens, IGNORED where nothing is trained; `count` says how many are trained."""

    input_ids_BT: Tensor
    document_ids_BT: Tensor
    labels_BT: Tensor

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Batch":
        input_ids = torch.from_numpy(np.stack([row.input_ids for row in rows])).long()
        document_ids = torch.from_numpy(np.stack([row.document_ids for row in rows])).long()
        # Text and chats may meet in a batch; without a mask every next token is trained.
        masks = [np.ones_like(row.input_ids) if row.loss_mask is None else row.loss_mask for row in rows]
        return cls(
            input_ids,
            document_ids,
            next_token_labels(input_ids, document_ids, torch.from_numpy(np.stack(masks))),
        )

    @property
    def count(self) -> int:
        return int((self.labels_BT != IGNORED).sum())

    def rows(self, start: int, end: int) -> "Batch":
        return Batch(self.input_ids_BT[start:end], self.document_ids_BT[start:end], self.labels_BT[start:end])

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.input_ids_BT.to(device), self.document_ids_BT.to(device), self.labels_BT.to(device))


class TrainingData:
    """The datasets of a run: one blended stream of rows to train on, and rows to validate on.

    With several datasets each phase draws from dataset d with the share that `-d PATH:weight` gives it, and within it by
    its own blend. They must have been packed with one tokenizer to one length.
    """

    def __init__(self, paths: Sequence[WeightedPath]) -> None:
        self.directory = paths[0].path
        datasets = [PackedDataset.open(item.path) for item in paths]
        first = datasets[0]
        self.seq_len, self.vocab_size = first.seq_len, first.vocab_size
        for item, dataset in zip(paths, datasets, strict=True):
            _refuse_mixture(first, dataset, paths[0].path, item.path)
        self._sources: dict[str, PackedRows] = {}
        self.phases: list[dict[str, float]] = [{} for _ in first.phases]
        self.validation: list[PackedRows] = [d.validation for d in datasets if d.validation is not None]
        names = _distinct_names([item.path for item in paths])
        total = sum(item.weight for item in paths)
        for item, dataset, name in zip(paths, datasets, names, strict=True):
            prefix = f"{name}/" if len(datasets) > 1 else ""
            self._sources |= {prefix + source: rows for source, rows in dataset.sources.items()}
            for merged, phase in zip(self.phases, dataset.phases, strict=True):
                share = item.weight / total / sum(phase.values())
                merged |= {prefix + source: weight * share for source, weight in phase.items()}

    def order(self, total_sequences: int, seed: int, boundaries: Sequence[float]) -> BlendedOrder:
        rows = {name: len(source) for name, source in self._sources.items()}
        return BlendedOrder(rows, self.phases, total_sequences, seed, boundaries)

    def batch(self, order: BlendedOrder, first: int, count: int) -> Batch:
        """Sequences `first` to `first + count - 1` of the run."""
        places = [order[index] for index in range(first, first + count)]
        return Batch.of([self._sources[source][row] for source, row in places])

    def validation_batches(self, tokens: int, size: int) -> list[Batch]:
        """Held-out rows in batches of `size`: all of them, or about `tokens` evenly spread where it is not 0."""
        rows = [(part, index) for part in self.validation for index in range(len(part))]
        wanted = min(len(rows), max(1, tokens // self.seq_len)) if tokens else len(rows)
        picked = [rows[i] for i in np.linspace(0, len(rows) - 1, wanted).round().astype(int)] if rows else []
        return [
            Batch.of([part[index] for part, index in picked[start : start + size]])
            for start in range(0, len(picked), size)
        ]


def _refuse_mixture(first: PackedDataset, other: PackedDataset, first_path: Path, other_path: Path) -> None:
    for what, mine, theirs in (
        ("row length", first.seq_len, other.seq_len),
        ("tokenizer", first.description.tokenizer, other.description.tokenizer),
        ("number of phases", len(first.phases), len(other.phases)),
    ):
        if mine != theirs:
            raise UsageError(
                f"its {what} ({theirs}) differs from that of {first_path} ({mine})",
                where=str(other_path),
                remedy="prepare both datasets with the same tokenizer and --seq-len",
            )


def _distinct_names(paths: Sequence[Path]) -> list[str]:
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]
