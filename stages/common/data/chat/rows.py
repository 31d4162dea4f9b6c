"""Chat jsonl to a packed dataset with loss masks: read, transform, encode, pack, write, one sample at a time."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.artifact.hashing import combined_hash, file_sha256
from model.errors import ArtifactError
from stages.common.config import WeightedPath
from stages.common.data.chat.encoding import EncodedSample
from stages.common.data.chat.format import ChatSample, read_chat
from stages.common.data.chat.settings import ChatDataSettings
from stages.common.data.chat.steps import Steps
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.chat.transforms import Concatenate
from stages.common.data.packed_dataset import DATASET_FILE, DatasetDescription, SourceCounts, SplitCounts
from stages.common.data.packing import Packer, Row
from stages.common.data.row_writer import RowWriter
from stages.common.data.sources import Source, resolve_sources
from stages.common.data.text_tokenizer import TOKENIZER_FILES, token_byte_lengths
from stages.common.reporter import Reporter

_PHASES = 3


@dataclass(frozen=True)
class PreparedChats:
    """dataset.json's content, and sentences on what each step did, as they were logged."""

    description: DatasetDescription
    notes: list[str]


def prepare_chat(
    sources: Sequence[WeightedPath],
    tokenizer_directory: Path,
    settings: ChatDataSettings,
    out: Path,
    reporter: Reporter,
) -> PreparedChats:
    """Writes the chats as a dataset directory that `PackedDataset.open` reads, tokenizer included.

    Args:
        sources: chat jsonl files, directories or patterns of them; each is one source of the blend.
        tokenizer_directory: with the chat template that is trained.
        out: an existing, empty directory.

    Raises:
        ArtifactError: a broken line or template, or a source of which nothing is left, named.
    """
    tokenizer = ChatTokenizer.open(tokenizer_directory)
    steps = Steps(settings, tokenizer)
    resolved = resolve_sources([(item.path, item.weight) for item in sources])
    counts: dict[str, SourceCounts] = {}
    with ExitStack() as stack, reporter.progress("encoding chats", total=None, unit="sample") as bar:
        validation = _Target(out / "validation", settings, tokenizer, stack)
        for source in resolved:
            training = _Target(out / "sources" / source.name, settings, tokenizer, stack)
            read, held_out = steps.read, steps.held_out
            for sample in _samples(source):
                bar.update(1)
                for encoded, is_held_out in steps(sample):
                    (validation if is_held_out else training).add(encoded)
            training.finish()
            if not training.packer.rows:
                raise _nothing_left(source, steps, steps.read - read)
            counts[source.name] = SourceCounts(
                **training.counts(),
                read=steps.read - read,
                empty=0,
                exact_duplicates=0,
                near_duplicates=0,
                held_out=steps.held_out - held_out,
                like_validation=0,
            )
            steps.joined += training.described()
        validation.finish()
    description = DatasetDescription(
        seq_len=settings.seq_len,
        vocab_size=tokenizer.text.vocab_size,
        masked=True,
        tokenizer=_tokenizer_hash(tokenizer_directory),
        sources=counts,
        phases=[{source.name: source.weight for source in resolved}] * _PHASES,
        validation=SplitCounts(**validation.counts()) if validation.packer.rows else None,
    )
    (out / DATASET_FILE).write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")
    tokenizer.text.copy_files(out)
    notes = steps.describe()
    for note in notes:
        reporter.log(note)
    for warning in steps.warnings():
        reporter.warn(warning)
    return PreparedChats(description, [*notes, *steps.warnings()])


@dataclass
class _Target:
    """A source's rows, or the held-out ones. The directory appears with its first row."""

    directory: Path
    settings: ChatDataSettings
    tokenizer: ChatTokenizer
    stack: ExitStack
    trained_tokens: int = 0
    text_bytes: int = 0
    packer: Packer = field(init=False)
    _join: Concatenate | None = field(init=False)
    _byte_lengths: NDArray[np.int64] = field(init=False)
    _writer: RowWriter | None = None

    def __post_init__(self) -> None:
        self.packer = Packer(self.settings.seq_len, self.tokenizer.text.pad_id)
        limit = self.settings.concatenate_tokens
        self._join = Concatenate(limit) if limit else None
        self._byte_lengths = token_byte_lengths(self.tokenizer.text.directory)

    def add(self, sample: EncodedSample) -> None:
        self.trained_tokens += int(sample.mask.sum())
        self.text_bytes += int(self._byte_lengths[sample.ids].sum())
        for document in self._join(sample) if self._join else (sample,):
            self._pack(document)

    def finish(self) -> None:
        for document in self._join.flush() if self._join else ():
            self._pack(document)
        self._write(self.packer.flush())

    def counts(self) -> dict[str, int]:
        return {
            "rows": self.packer.rows,
            "tokens": self.packer.tokens,
            "documents": self.packer.documents,
            "cut_documents": self.packer.cut_documents,
            "bytes": self.text_bytes,
            "trained_tokens": self.trained_tokens,
        }

    def described(self) -> list[str]:
        return [f"{self.directory.name}: {line}" for line in self._join.describe()] if self._join else []

    def _pack(self, document: EncodedSample) -> None:
        self._write(self.packer.add(document.ids, document.mask))
        if not self.settings.packing:
            self._write(self.packer.flush())

    def _write(self, rows: Iterator[Row]) -> None:
        for row in rows:
            if self._writer is None:
                self._writer = self.stack.enter_context(
                    RowWriter(self.directory, self.settings.seq_len, masked=True)
                )
            self._writer.write(row)


def _samples(source: Source) -> Iterator[ChatSample]:
    for file in source.files:
        yield from read_chat(file)


def _nothing_left(source: Source, steps: Steps, read: int) -> ArtifactError:
    where = f"source {source.name} ({source.files[0]}{' and others' if len(source.files) > 1 else ''})"
    if not read:
        return ArtifactError("has no samples", where=where, remedy="give it some, or leave it out")
    reasons = "; ".join([*steps.describe(), *steps.warnings()])
    return ArtifactError(
        f"none of its {read} samples is left to train on ({reasons})",
        where=where,
        remedy="leave it out, or give a larger --seq-len or a smaller --validation-fraction",
    )


def _tokenizer_hash(directory: Path) -> str:
    """Of the tokenizer's files alone: beside a model's weights they hash as they do in a tokenizer artifact."""
    names = [name for name in TOKENIZER_FILES if (directory / name).is_file()]
    return combined_hash({name: file_sha256(directory / name) for name in names})
