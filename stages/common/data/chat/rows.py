"""Chat jsonl to a packed dataset with loss masks: read, transform, encode, pack, write, one sample at a time."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evals.chat_lines import ChatSample, read_chat
from model.artifact.hashing import combined_hash, file_sha256
from model.errors import ArtifactError
from stages.common.config import WeightedPath
from stages.common.data.chat.encoding import EncodedSample, Episodes, encode_sample
from stages.common.data.chat.settings import ChatDataSettings
from stages.common.data.chat.steps import Steps
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.chat.transforms import Concatenate
from stages.common.data.packed_dataset import DATASET_FILE, DatasetDescription, SourceCounts, SplitCounts
from stages.common.data.packing import Packer, Row
from stages.common.data.parallel import available_cpus, parallel_map
from stages.common.data.row_writer import RowWriter
from stages.common.data.sources import Source, resolve_sources
from stages.common.data.text_tokenizer import TOKENIZER_FILES, token_byte_lengths
from stages.common.reporter import ProgressBar, Reporter

_PHASES = 3
_BATCH_SAMPLES = 256
_BATCHES_HERE = 4  # encoded in this process, before any worker is started


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
    *,
    check: Callable[[], None] = lambda: None,
) -> PreparedChats:
    """Writes the chats as a dataset directory that `PackedDataset.open` reads, tokenizer included.

    Args:
        sources: chat jsonl files, directories or patterns of them; each is one source of the blend.
        tokenizer_directory: with the chat template that is trained.
        out: an existing, empty directory.
        check: called at each sample; what it raises ends the work.

    Raises:
        ArtifactError: a broken line or template, or a source of which nothing is left, named.
    """
    tokenizer = ChatTokenizer.open(tokenizer_directory)
    steps = Steps(settings, tokenizer)
    resolved = resolve_sources([(item.path, item.weight) for item in sources])
    read, held_out = Counter[int](), Counter[int]()
    with ExitStack() as stack:
        targets = [_Target(out / "sources" / source.name, settings, tokenizer, stack) for source in resolved]
        validation = _Target(out / "validation", settings, tokenizer, stack)
        bar = stack.enter_context(reporter.progress("encoding chats", total=None, unit="sample"))
        versions = _versions(resolved, steps, read, held_out, bar, check)
        done = 0
        for source, is_held_out, encoded in stack.enter_context(
            closing(_encoded(versions, tokenizer, settings))
        ):
            while done < source:  # sources come one after the other
                targets[done].finish()
                done += 1
            if steps.fits(encoded):
                (validation if is_held_out else targets[source]).add(encoded)
        for target in (*targets[done:], validation):
            target.finish()
    for number, target in enumerate(targets):
        if not target.packer.rows:
            raise _nothing_left(resolved[number], steps, read[number])
    description = DatasetDescription(
        seq_len=settings.seq_len,
        vocab_size=tokenizer.text.vocab_size,
        masked=True,
        tokenizer=_tokenizer_hash(tokenizer_directory),
        sources={
            source.name: SourceCounts(
                **targets[number].counts(),
                read=read[number],
                empty=0,
                exact_duplicates=0,
                near_duplicates=0,
                held_out=held_out[number],
                like_validation=0,
            )
            for number, source in enumerate(resolved)
        },
        phases=[{source.name: source.weight for source in resolved}] * _PHASES,
        validation=SplitCounts(**validation.counts()) if validation.packer.rows else None,
    )
    (out / DATASET_FILE).write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")
    tokenizer.text.copy_files(out)
    notes = [*steps.describe(), *(line for target in targets for line in target.described())]
    for note in notes:
        reporter.log(note)
    for warning in steps.warnings():
        reporter.warn(warning)
    return PreparedChats(description, [*notes, *steps.warnings()])


@dataclass(frozen=True)
class _Version:
    """A sample on its way to the encoder: of which source, and whether it is held out."""

    source: int
    is_held_out: bool
    sample: ChatSample


def _versions(
    sources: Sequence[Source],
    steps: Steps,
    read: Counter[int],
    held_out: Counter[int],
    bar: ProgressBar,
    check: Callable[[], None],
) -> Iterator[_Version]:
    for number, source in enumerate(sources):
        for file in source.files:
            for sample in read_chat(file):
                check()
                bar.update(1)
                read[number] += 1
                versions, is_held_out = steps.versions(sample)
                held_out[number] += is_held_out
                yield from (_Version(number, is_held_out, version) for version in versions)
        if not read[number]:
            raise _nothing_left(source, steps, 0)


def _encoded(
    versions: Iterator[_Version], tokenizer: ChatTokenizer, settings: ChatDataSettings
) -> Generator[tuple[int, bool, EncodedSample], None, None]:
    """The documents of each sample, in order. Workers are started only where there is much to do."""
    batches = iter(lambda: list(islice(versions, _BATCH_SAMPLES)), [])
    encode_here = partial(_encode, tokenizer, settings.episodes)
    encoder = partial(_encoder, tokenizer.directory, settings.episodes)
    workers = settings.workers or available_cpus()
    with closing(parallel_map(encoder, batches, workers)) as in_parallel:
        for batch in chain(map(encode_here, islice(batches, _BATCHES_HERE)), in_parallel):
            yield from batch


def _encoder(
    directory: Path, episodes: Episodes
) -> Callable[[list[_Version]], list[tuple[int, bool, EncodedSample]]]:
    return partial(_encode, ChatTokenizer.open(directory), episodes)


def _encode(
    tokenizer: ChatTokenizer, episodes: Episodes, batch: list[_Version]
) -> list[tuple[int, bool, EncodedSample]]:
    return [
        (version.source, version.is_held_out, encoded)
        for version in batch
        for encoded in encode_sample(tokenizer, version.sample, episodes)
    ]


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
