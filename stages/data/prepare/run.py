"""`nano2 data prepare`: text in, dataset artifact out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.artifact.hashing import content_hash
from model.errors import ArtifactError, UsageError
from stages.common.data.blending import check_phases
from stages.common.data.packed_dataset import DATASET_FILE, DatasetDescription, SourceCounts, SplitCounts
from stages.common.data.packing import Packer
from stages.common.data.parallel import available_cpus, parallel_map
from stages.common.data.row_writer import RowWriter
from stages.common.data.sources import Source, resolve_sources
from stages.common.data.text_tokenizer import TextTokenizer
from stages.common.reporter import ProgressBar
from stages.common.stage import StageContext, StageResult
from stages.data.prepare.config import PrepareConfig
from stages.data.prepare.minhash import MinHash
from stages.data.prepare.survey import Batch, DuplicateRules, Fate, Survey, read_batches, survey_corpus

PHASES = 3


def run(config: PrepareConfig, context: StageContext) -> StageResult:
    """Surveys the corpus for duplicates, then tokenizes and packs what is kept, source by source."""
    tokenizer = TextTokenizer.open(config.tokenizer)
    sources = resolve_sources(item.pair for item in config.data)
    phases = _phases(config, sources)
    workers = config.workers or available_cpus()
    corpus, validation_source = sources, None
    if config.validation is not None:
        corpus, validation_source = [*sources, *resolve_sources([(config.validation, 1.0)])], len(sources)

    scratch = context.staging / ".signatures"
    with context.reporter.progress("looking for duplicates", total=None, unit="char") as bar:
        survey = survey_corpus(
            corpus,
            validation_source=validation_source,
            validation_fraction=config.validation_fraction,
            rules=_rules(config),
            seed=config.seed,
            text_field=config.text_field,
            workers=workers,
            scratch=scratch,
            bar=bar,
        )
    scratch.unlink()
    _refuse_nothing_left(survey, sources)
    with context.reporter.progress("tokenizing and packing", total=None, unit="char") as bar:
        packed = _tokenize_and_pack(config, corpus, survey, tokenizer, workers, context.staging, bar)
    description = _description(config, sources, phases, survey, tokenizer, packed)
    (context.staging / DATASET_FILE).write_text(
        description.model_dump_json(indent=2) + "\n", encoding="utf-8"
    )
    tokenizer.copy_files(context.staging)
    return _result(description, packed, context)


@dataclass
class _Packed:
    """Packers by source number, and None for the validation set; bytes of text that went into each."""

    packers: dict[int | None, Packer]
    text_bytes: dict[int | None, int]


def _phases(config: PrepareConfig, sources: Sequence[Source]) -> list[dict[str, float]]:
    names = {source.name: 1 for source in sources}
    if not config.phases:
        return [{source.name: source.weight for source in sources}] * PHASES
    if len(config.phases) != PHASES:
        raise UsageError(
            f"{len(config.phases)} blends given, and a run has {PHASES} phases",
            where="phases",
            remedy=f"give {PHASES} blends, repeating one if need be, or leave phases out",
        )
    check_phases(config.phases, names)
    unused = [name for name in names if all(name not in phase for phase in config.phases)]
    if unused:
        raise UsageError(
            f"no phase uses the source {unused[0]!r}",
            where="phases",
            remedy="give it a weight, or leave it out of -d",
        )
    return [dict(phase) for phase in config.phases]


def _rules(config: PrepareConfig) -> DuplicateRules:
    sketch = MinHash(config.permutations, config.shingle_words) if config.duplicates == "near" else None
    return DuplicateRules(config.duplicates != "keep", sketch, config.similarity)


def _refuse_nothing_left(survey: Survey, sources: Sequence[Source]) -> None:
    for number, source in enumerate(sources):
        if survey.count(number, Fate.TRAIN):
            continue
        read = int((survey.source == number).sum())
        left_out = {fate: survey.count(number, fate) for fate in Fate if fate is not Fate.TRAIN}
        reasons = ", ".join(f"{count} {fate.label}" for fate, count in left_out.items() if count)
        raise ArtifactError(
            f"none of its {read} documents is left to train on ({reasons})" if read else "has no documents",
            where=f"source {source.name} ({source.files[0]}{' and others' if len(source.files) > 1 else ''})",
            remedy="leave the source out, give it more text, or choose --duplicates keep",
        )


def _tokenize_and_pack(
    config: PrepareConfig,
    corpus: Sequence[Source],
    survey: Survey,
    tokenizer: TextTokenizer,
    workers: int,
    staging: Path,
    bar: ProgressBar,
) -> _Packed:
    targets: dict[int | None, Path] = {
        number: staging / "sources" / source.name
        for number, source in enumerate(corpus)
        if survey.count(number, Fate.TRAIN)
    }
    if (survey.fates == Fate.VALIDATE).any():
        targets[None] = staging / "validation"
    packed = _Packed(
        {target: Packer(config.seq_len, tokenizer.pad_id) for target in targets}, dict.fromkeys(targets, 0)
    )
    batches = _kept(read_batches(corpus, config.text_field, bar), survey)
    encoded = parallel_map(partial(_encoder, tokenizer.directory), batches, workers)
    with ExitStack() as stack:
        stack.enter_context(closing(encoded))
        writers = {
            target: stack.enter_context(RowWriter(path, config.seq_len)) for target, path in targets.items()
        }
        for batch in encoded:
            for fate, document, size in zip(batch.fates, batch.documents, batch.sizes, strict=True):
                target = None if fate == Fate.VALIDATE else batch.source
                packed.text_bytes[target] += size
                for row in packed.packers[target].add(document):
                    writers[target].write(row)
        for target, packer in packed.packers.items():
            for row in packer.flush():
                writers[target].write(row)
    return packed


@dataclass(frozen=True)
class _KeptBatch:
    source: int
    fates: NDArray[np.uint8]
    texts: list[str]


@dataclass(frozen=True)
class _EncodedBatch:
    source: int
    fates: NDArray[np.uint8]
    documents: list[NDArray[np.int32]]
    sizes: list[int]  # bytes of text


def _kept(batches: Iterator[Batch], survey: Survey) -> Iterator[_KeptBatch]:
    seen = 0
    for batch in batches:
        seen = batch.first + len(batch.texts)
        fates = survey.fates[batch.first : seen]
        if len(fates) < len(batch.texts):
            break
        kept = fates <= Fate.VALIDATE
        texts = [text for text, keep in zip(batch.texts, kept, strict=True) if keep]
        yield _KeptBatch(batch.source, fates[kept], texts)
    if seen != len(survey.fates):
        raise ArtifactError(
            f"the text changed while it was read: {len(survey.fates)} documents first, now {seen}",
            remedy="run again when nothing writes to it",
        )


def _encoder(directory: Path) -> Callable[[_KeptBatch], _EncodedBatch]:
    return partial(_encode, TextTokenizer.open(directory))


def _encode(tokenizer: TextTokenizer, batch: _KeptBatch) -> _EncodedBatch:
    sizes = [len(text.encode()) for text in batch.texts]
    return _EncodedBatch(batch.source, batch.fates, tokenizer.encode_documents(batch.texts), sizes)


def _counts(packed: _Packed, target: int | None) -> dict[str, int]:
    packer = packed.packers[target]
    return {
        "rows": packer.rows,
        "tokens": packer.tokens,
        "documents": packer.documents,
        "cut_documents": packer.cut_documents,
        "bytes": packed.text_bytes[target],
    }


def _description(
    config: PrepareConfig,
    sources: Sequence[Source],
    phases: list[dict[str, float]],
    survey: Survey,
    tokenizer: TextTokenizer,
    packed: _Packed,
) -> DatasetDescription:
    counts = {
        source.name: SourceCounts(
            **_counts(packed, number),
            read=int((survey.source == number).sum()),
            empty=survey.count(number, Fate.EMPTY),
            exact_duplicates=survey.count(number, Fate.EXACT_DUPLICATE),
            near_duplicates=survey.count(number, Fate.NEAR_DUPLICATE),
            held_out=survey.count(number, Fate.VALIDATE),
            like_validation=survey.count(number, Fate.LIKE_VALIDATION),
        )
        for number, source in enumerate(sources)
    }
    return DatasetDescription(
        seq_len=config.seq_len,
        vocab_size=tokenizer.vocab_size,
        tokenizer=content_hash(tokenizer.directory),
        sources=counts,
        phases=phases,
        validation=SplitCounts(**_counts(packed, None)) if None in packed.packers else None,
    )


def _result(description: DatasetDescription, packed: _Packed, context: StageContext) -> StageResult:
    sources = description.sources.values()
    tokens, rows = sum(item.tokens for item in sources), sum(item.rows for item in sources)
    validation = description.validation
    notes = []
    if validation is None:
        notes.append(
            "no document was held out, so training cannot measure validation loss; give --validation PATH"
        )
        context.reporter.warn(notes[0])
    table = [
        {"source": name, **item.model_dump(), "fill": packed.packers[number].fill}
        for number, (name, item) in enumerate(description.sources.items())
    ]
    return StageResult(
        metrics={
            "rows": rows,
            "tokens": tokens,
            "documents": sum(item.documents for item in sources),
            "bytes": sum(item.bytes for item in sources),
            "bytes_per_token": sum(item.bytes for item in sources) / tokens,
            "fill": tokens / (rows * description.seq_len),
            "padding_tokens": rows * description.seq_len - tokens,
            "exact_duplicates": sum(item.exact_duplicates for item in sources),
            "near_duplicates": sum(item.near_duplicates for item in sources),
            "like_validation": sum(item.like_validation for item in sources),
            "validation_documents": validation.documents if validation else 0,
            "validation_tokens": validation.tokens if validation else 0,
            "validation_bytes": validation.bytes if validation else 0,
        },
        rows=table,
        notes=notes,
    )
