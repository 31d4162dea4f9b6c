"""The rows on which importance is measured."""

from __future__ import annotations

from collections.abc import Iterator

from model.errors import ArtifactError
from stages.common.training.batches import Batch, TrainingData


class Calibration:
    """`samples` different rows of a blend's last phase, `batch` at a time, the same for the same seed.

    Raises:
        ArtifactError: a source has fewer rows than its share of the samples.
    """

    def __init__(self, data: TrainingData, samples: int, batch: int, seed: int) -> None:
        self.samples, self.seq_len = samples, data.seq_len
        self._data, self._batch = data, batch
        self._order = data.order_of_blend(data.phases[-1], samples, seed)
        (drawn,) = self._order.phase_rows()
        for source, wanted in drawn.items():
            if wanted > data.row_counts[source]:
                raise ArtifactError(
                    f"{samples} calibration samples take {wanted} rows of source {source!r}, which has "
                    f"{data.row_counts[source]} ({sum(data.row_counts[name] for name in drawn)} in all sources)",
                    where=str(data.directory),
                    remedy=f"ask for fewer with --samples, or prepare more data (rows are of {data.seq_len} tokens)",
                )

    def batches(self, samples: int) -> Iterator[Batch]:
        """The first `samples` rows."""
        for start in range(0, samples, self._batch):
            end = min(samples, start + self._batch)
            yield self._data.rows([self._order[index] for index in range(start, end)])

    def steps(self, samples: int) -> int:
        """How many batches `samples` rows are."""
        return -(-samples // self._batch)
