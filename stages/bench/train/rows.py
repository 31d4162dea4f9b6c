"""The rows of the step that is measured: the same ones in every step, for every point and side."""

import math

import numpy as np
import torch

from model.config import HybridConfig
from model.errors import UsageError
from model.loading import read_config
from model.loss import next_token_labels
from model.parallel.shape import MeshShape
from stages.bench.train.config import DEFAULT_SEQ_LEN, TrainBenchConfig
from stages.common.data.packing import Row
from stages.common.training.batches import Batch, RowStream, TrainingData
from stages.common.training.steps import StepShape


def model_shape(config: TrainBenchConfig) -> HybridConfig:
    """Of the preset with its changes, or of the model."""
    if config.model is not None:
        return read_config(config.model)
    assert config.preset is not None
    return HybridConfig.preset(config.preset, **config.shape)


def step_shape(config: TrainBenchConfig, seq_len: int) -> StepShape:
    """One step. UsageError if it is not whole micro-batches of every size."""
    every = math.lcm(*config.micro_batch)
    return StepShape.of(config.batch_tokens, config.batch_tokens, seq_len=seq_len, micro_batch=every)


def step_rows(config: TrainBenchConfig, shape: HybridConfig) -> Batch:
    """The rows [B, T] of a step. UsageError if they do not fit step or shape."""
    if config.data:
        rows = _dataset_rows(config)
        if (largest := int(rows.input_ids_BT.max())) >= shape.vocab_size:
            raise UsageError(
                f"the data has token {largest}, the embedding only {shape.vocab_size} rows",
                where="data",
                remedy="give the model that the data was prepared for, or a shape with such a vocab_size",
            )
    else:
        rows = _random_rows(config, shape.vocab_size)
    length = rows.input_ids_BT.shape[1]
    if length > shape.max_position_embeddings:
        raise UsageError(
            f"rows of {length} tokens are longer than the {shape.max_position_embeddings} that the shape is declared for",
            where="seq_len",
            remedy=f"lower it, or pass --shape max_position_embeddings={length}",
        )
    for pieces in config.pieces:
        try:
            MeshShape(context=pieces).piece(length, shape.conv_kernel - 1)
        except UsageError as error:
            raise UsageError(
                error.what, where="pieces", remedy="leave it out, or give another --seq-len"
            ) from error
    return rows


def _dataset_rows(config: TrainBenchConfig) -> Batch:
    data = TrainingData(config.data)
    shape = step_shape(config, data.seq_len)
    order = data.order_of_blend(data.phases[0], shape.sequences, config.seed)
    rows = RowStream(data, order, shape).batch(0)
    if config.documents is None:
        return rows
    one_BT = rows.document_ids_BT.clamp(max=0)  # padding stays padding
    return Batch(rows.input_ids_BT, one_BT, next_token_labels(rows.input_ids_BT, one_BT))


def _random_rows(config: TrainBenchConfig, vocab_size: int) -> Batch:
    length = config.seq_len or DEFAULT_SEQ_LEN
    draw = np.random.default_rng(config.seed)
    rows = []
    for _ in range(step_shape(config, length).sequences):
        begins = np.zeros(length, dtype=np.int32)
        begins[1 + draw.choice(length - 1, (config.documents or 1) - 1, replace=False)] = 1
        ids = draw.integers(vocab_size, size=length, dtype=np.int32)
        rows.append(Row(ids, begins.cumsum(dtype=np.int32)))
    return Batch.of(rows)


def several_documents(rows: Batch) -> bool:
    """Does a row hold more than one?"""
    ids_BT = rows.document_ids_BT
    return bool(((ids_BT[:, 1:] != ids_BT[:, :-1]) & (ids_BT[:, 1:] >= 0)).any())


def documents_in(rows: Batch) -> int:
    """How many documents, or pieces of them, the rows hold."""
    ids_BT = rows.document_ids_BT
    return int((ids_BT[:, 0] >= 0).sum() + ((ids_BT[:, 1:] != ids_BT[:, :-1]) & (ids_BT[:, 1:] >= 0)).sum())


def as_arrays(rows: Batch) -> tuple[np.ndarray, ...]:
    """For another process."""
    return tuple(part.numpy() for part in (rows.input_ids_BT, rows.document_ids_BT, rows.labels_BT))


def from_arrays(arrays: tuple[np.ndarray, ...]) -> Batch:
    return Batch(*map(torch.from_numpy, arrays))
