"""`nano2 data show`: a look at a packed dataset, or at text or chats through a tokenizer."""

from __future__ import annotations

from typing import Any

import numpy as np

from model.errors import UsageError
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.packed_dataset import DATASET_FILE, DatasetDescription, PackedDataset
from stages.common.data.packing import PADDING_DOCUMENT
from stages.common.data.sources import resolve_sources
from stages.common.data.text_tokenizer import TextTokenizer, load_backend, token_bytes
from stages.common.stage import StageContext, StageResult
from stages.data.show.chats import ShownChats, look_at_chats
from stages.data.show.config import ShowConfig
from stages.data.show.inspection import (
    VALIDATION,
    Shown,
    ShownRow,
    histogram,
    look_at_dataset,
    look_at_text,
    tokenizer_directory,
)
from stages.data.show.rendering import RowView, Vocabulary, histogram_table


def run(config: ShowConfig, context: StageContext) -> StageResult:
    """Prints rows and the histogram of lengths; the result is the table of sources."""
    is_dataset = (config.path / DATASET_FILE).is_file()
    sources = [] if is_dataset else resolve_sources([(config.path, 1.0)])
    directory = tokenizer_directory(config.path, config.tokenizer, config.model, is_dataset=is_dataset)
    if config.source is not None and not is_dataset:
        raise UsageError(
            "only a packed dataset has sources", where=str(config.path), remedy="leave out --source"
        )
    if is_dataset:
        dataset = PackedDataset.open(directory)
        shown = look_at_dataset(dataset, config.source, config.rows)
        result = _describe(dataset.description)
        if config.mask and not dataset.description.masked:
            result.notes.append("the dataset has no loss masks: every next token of a document is trained")
    elif config.mask:
        chats = look_at_chats(sources, ChatTokenizer.open(directory), config.episodes, config.rows)
        shown = Shown(chats.rows, np.array(chats.lengths, dtype=np.int64))
        result = _describe_chats(chats)
    else:
        tokenizer = TextTokenizer.open(directory)
        shown = look_at_text(sources, tokenizer, config.text_field, config.rows)
        result = StageResult(metrics={"documents_measured": len(shown.lengths)})
    backend = load_backend(directory)
    names = {index: token.content for index, token in backend.get_added_tokens_decoder().items()}
    vocabulary = Vocabulary(token_bytes(backend), names)
    bins = histogram(shown.lengths)
    for row in shown.rows:
        context.reporter.output(RowView(row, vocabulary, config.mask))
    context.reporter.output(
        histogram_table(bins, f"lengths of {len(shown.lengths):,} documents, or of their parts in a row")
    )
    result.data = {
        "rows": [_row_data(row, vocabulary) for row in shown.rows],
        "lengths": [{"from": low, "to": high, "documents": count} for low, high, count in bins],
    }
    result.metrics |= _length_metrics(shown)
    return result


def _describe_chats(chats: ShownChats) -> StageResult:
    tokens = sum(chats.lengths)
    notes = [
        f"refused: {count} {'times' if count > 1 else 'time'}: {what}"
        for what, count in chats.problems.most_common()
    ]
    if chats.template is not None:
        notes.append(f"the chat template is refused: {chats.template.what}; {chats.template.remedy}")
    return StageResult(
        metrics={
            "samples_measured": chats.samples,
            "documents_measured": len(chats.lengths),
            "refused": chats.problems.total(),
            "tokens": tokens,
            "trained_tokens": chats.trained_tokens,
            "trained_share": chats.trained_tokens / tokens if tokens else 0.0,
        },
        notes=notes,
    )


def _describe(description: DatasetDescription) -> StageResult:
    seq_len = description.seq_len
    splits = {
        **description.sources,
        **({VALIDATION: description.validation} if description.validation else {}),
    }
    rows: list[dict[str, Any]] = []
    for name, counts in splits.items():
        weights = {
            f"phase_{number}": phase.get(name, 0) / sum(phase.values())
            for number, phase in enumerate(description.phases, start=1)
        }
        rows.append(
            {
                "source": name,
                "rows": counts.rows,
                "tokens": counts.tokens,
                "documents": counts.documents,
                "bytes": counts.bytes,
                "fill": counts.tokens / (counts.rows * seq_len) if counts.rows else 1.0,
                **({"trained": (counts.trained_tokens or 0) / counts.tokens} if description.masked else {}),
                **(weights if name in description.sources else {}),
            }
        )
    total_rows = sum(counts.rows for counts in description.sources.values())
    tokens = sum(counts.tokens for counts in description.sources.values())
    return StageResult(
        metrics={
            "seq_len": seq_len,
            "vocab_size": description.vocab_size,
            "rows": total_rows,
            "tokens": tokens,
            "fill": tokens / (total_rows * seq_len),
        },
        rows=rows,
    )


def _length_metrics(shown: Shown) -> dict[str, float | int | str]:
    if not len(shown.lengths):
        return {}
    return {
        "median_length": float(np.median(shown.lengths)),
        "mean_length": float(shown.lengths.mean()),
        "longest": int(shown.lengths.max()),
    }


def _row_data(row: ShownRow, vocabulary: Vocabulary) -> dict[str, Any]:
    ids = row.input_ids.tolist()
    problem = row.problem
    return {
        "source": row.source,
        "row": row.number,
        **({"place": row.place} if row.place else {}),
        "input_ids": ids,
        "document_ids": row.document_ids.tolist(),
        "in_loss": row.in_loss.tolist(),
        "tokens": [vocabulary.spell(token) for token in ids],
        "padding": int((row.document_ids == PADDING_DOCUMENT).sum()),
        **({"refused": {"what": problem.what, "remedy": problem.remedy}} if problem else {}),
    }
