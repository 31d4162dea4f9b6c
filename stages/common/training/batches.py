"""From a sequence counter to tensors: the rows of one or more packed datasets in their blended order.

Shapes: B sequences, T tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from model.errors import UsageError
from model.loss import IGNORED, next_token_labels
from stages.common.config import WeightedPath
from stages.common.data.blending import BlendedOrder
from stages.common.data.packed_dataset import PackedDataset, PackedRows
from stages.common.data.packing import Row
from stages.common.data.text_tokenizer import vocabulary_difference
from stages.common.training.steps import StepShape


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
        return self.map(lambda rows_BT: rows_BT.to(device))

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(change(self.input_ids_BT), change(self.document_ids_BT), change(self.labels_BT))


Place = tuple[str, int]
"""Of a row: its source, and its number there."""


class TrainingData:
    """The datasets of a run: one blended stream of rows to train on, and rows to validate on.

    With several datasets each phase draws from dataset d with the share that `-d PATH:weight` gives it, and within it by
    its own blend. They must have been packed with one tokenizer to one length. `cut_documents`: of each source how many
    of its documents were longer than a row.
    """

    def __init__(self, paths: Sequence[WeightedPath]) -> None:
        self.directory = paths[0].path
        datasets = [PackedDataset.open(item.path) for item in paths]
        first = datasets[0]
        self.seq_len, self.vocab_size = first.seq_len, first.vocab_size
        for item, dataset in zip(paths, datasets, strict=True):
            _refuse_mixture(first, dataset, paths[0].path, item.path)
        self._sources: dict[str, PackedRows] = {}
        self.cut_documents: dict[str, tuple[int, int]] = {}
        self.phases: list[dict[str, float]] = [{} for _ in first.phases]
        self._validation: dict[str, PackedRows] = {}
        names = _distinct_names([item.path for item in paths])
        total = sum(item.weight for item in paths)
        for item, dataset, name in zip(paths, datasets, names, strict=True):
            prefix = f"{name}/" if len(datasets) > 1 else ""
            self._sources |= {prefix + source: rows for source, rows in dataset.sources.items()}
            if dataset.validation is not None:
                self._validation[f"{prefix}/validation"] = dataset.validation  # no source has such a name
            self.cut_documents |= {
                prefix + source: (counts.cut_documents, counts.documents)
                for source, counts in dataset.description.sources.items()
            }
            for merged, phase in zip(self.phases, dataset.phases, strict=True):
                share = item.weight / total / sum(phase.values())
                merged |= {prefix + source: weight * share for source, weight in phase.items()}

    @property
    def row_counts(self) -> dict[str, int]:
        """Rows of each source."""
        return {name: len(rows) for name, rows in self._sources.items()}

    def order(self, total_sequences: int, seed: int, boundaries: Sequence[float]) -> BlendedOrder:
        """All phases, the next one beginning at each boundary."""
        return BlendedOrder(self.row_counts, self.phases, total_sequences, seed, boundaries)

    def order_of_blend(self, blend: Mapping[str, float], total_sequences: int, seed: int) -> BlendedOrder:
        """One blend, {source: weight}, from beginning to end."""
        return BlendedOrder(self.row_counts, [blend], total_sequences, seed, ())

    @property
    def directories(self) -> dict[str, Path]:
        """Where the rows of each source, and the held-out ones of each dataset, lie."""
        return {name: rows.directory for name, rows in {**self._sources, **self._validation}.items()}

    def rows(self, places: Sequence[Place]) -> Batch:
        """The rows at these places."""
        parts = self._sources | self._validation
        return Batch.of([parts[source][row] for source, row in places])

    def validation_places(self, tokens: int) -> list[Place]:
        """Held-out rows: all of them, or about `tokens` evenly spread where it is not 0."""
        rows = [(name, index) for name, part in self._validation.items() for index in range(len(part))]
        wanted = min(len(rows), max(1, tokens // self.seq_len)) if tokens else len(rows)
        return [rows[i] for i in np.linspace(0, len(rows) - 1, wanted).round().astype(int)] if rows else []

    def validation_batches(self, tokens: int, size: int) -> list[Batch]:
        """The rows of `validation_places` in batches of `size`."""
        picked = self.validation_places(tokens)
        return [self.rows(picked[start : start + size]) for start in range(0, len(picked), size)]


B_co = TypeVar("B_co", covariant=True)


class Rows(Protocol[B_co]):
    """Rows by their places: of `TrainingData`, or with more than it has."""

    def rows(self, places: Sequence[Place]) -> B_co: ...


class RowStream(Generic[B_co]):
    """The batches of a run over packed rows: each a function of its step's number alone."""

    def __init__(self, data: Rows[B_co], order: BlendedOrder, shape: StepShape) -> None:
        self._data, self._order, self._shape = data, order, shape

    def batch(self, step: int) -> B_co:
        """The rows of step `step`, counted from 0."""
        return self._data.rows(self.places(step))

    def figures(self, step: int) -> dict[str, float]:
        """What a step's log line says of its data."""
        return {"phase": self._order.phase_of(step * self._shape.sequences) + 1}

    def describe(self, step: int, start: int, end: int) -> str:
        """The step and its rows `start` to `end` - 1, for `nano2 data show`."""
        places = [f"{source}[{row}]" for source, row in self.places(step)[start:end]]
        shown = ", ".join(places[:8]) + (", ..." if len(places) > 8 else "")
        return f"step {step + 1}, rows {shown}"

    def places(self, step: int) -> list[Place]:
        """Where the rows of step `step` lie."""
        first = step * self._shape.sequences
        return [self._order[first + offset] for offset in range(self._shape.sequences)]


def _refuse_mixture(first: PackedDataset, other: PackedDataset, first_path: Path, other_path: Path) -> None:
    for what, mine, theirs in (
        ("row length", first.seq_len, other.seq_len),
        ("number of phases", len(first.phases), len(other.phases)),
    ):
        if mine != theirs:
            raise UsageError(
                f"its {what} ({theirs}) differs from that of {first_path} ({mine})",
                where=str(other_path),
                remedy="prepare both datasets with the same --seq-len",
            )
    # Other files, such as another chat template, may still give every token the same id.
    same_files = first.description.tokenizer == other.description.tokenizer
    if not same_files and (difference := vocabulary_difference(other_path, first_path)):
        raise UsageError(
            f"its tokenizer is another one: {difference}",
            where=str(other_path),
            remedy="prepare both datasets with the same tokenizer",
        )


def _distinct_names(paths: Sequence[Path]) -> list[str]:
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]
