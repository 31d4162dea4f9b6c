"""`nano2 data longqa`: documents in; out come the long ones, question-answer pairs at their ends (report: the
long-context phase)."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial

from model.errors import ArtifactError, InterruptedRunError
from stages.common.data.documents import read_documents
from stages.common.data.parallel import available_cpus, parallel_map
from stages.common.data.sources import Source, resolve_sources
from stages.common.data.text_tokenizer import TextTokenizer
from stages.common.stage import StageContext, StageResult
from stages.data.longqa.config import LongqaConfig
from stages.data.longqa.documents_file import DocumentsFile
from stages.data.longqa.kept_pairs import KeptPairs
from stages.data.longqa.pairs import NoPair, Pair, PairWriter, Passage
from stages.data.longqa.pieces import ENDS, Piece, PieceRules, SourceText, piece_maker
from stages.data.longqa.rules import RulesWriter
from stages.data.longqa.wording import append_pairs, render_pair

_BATCH_CHARACTERS = 1 << 20


@dataclass
class Tally:
    """What became of everything that was read."""

    read: int = 0
    cut: int = 0
    short: int = 0
    too_long: int = 0
    longest: int = 0  # tokens of the longest piece
    long: int = 0  # pieces with chunks to ask about
    written: int = 0
    without_pairs: int = 0
    chunks: int = 0
    sampled: int = 0
    no_room: int = 0
    tokens: int = 0
    pair_tokens: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)


def run(config: LongqaConfig, context: StageContext) -> StageResult:
    """Reads, cuts, asks and writes in one stream; documents stay in their order."""
    sources = resolve_sources(item.pair for item in config.data)
    tokenizer = TextTokenizer.open(config.tokenizer)
    tally = Tally()
    with ExitStack() as stack:
        writer = _writer(config, context, stack)
        pieces = stack.enter_context(closing(_pieces(config, sources, tally)))
        file = stack.enter_context(DocumentsFile(context.staging, compress=config.compress))
        bar = stack.enter_context(context.reporter.progress("writing pairs", total=None, unit="document"))
        for piece, outcomes in _with_outcomes(writer, pieces):
            if context.stop:
                raise InterruptedRunError(
                    "interrupted", where=str(context.out), remedy="run the same command again"
                )
            _write(config, tokenizer, file, writer.name, piece, outcomes, tally)
            bar.update(1, pairs=tally.kinds.total())
    _refuse_nothing(config, sources, tally)
    return _result(config, tally, context)


def _writer(config: LongqaConfig, context: StageContext, stack: ExitStack) -> PairWriter:
    if config.writer == "rules":
        return RulesWriter(config.seed)
    kept = stack.enter_context(KeptPairs(context.run_dir))
    if kept.damaged:
        context.reporter.warn(f"{kept.damaged} kept pairs were damaged and are written anew")
    if len(kept):
        context.reporter.log(f"{len(kept)} pairs are there from before")
    if config.writer == "model":
        from stages.data.longqa.model_writer import ModelWriter

        model_writer = ModelWriter(config, kept, context.stop, context.reporter)
        context.device = model_writer.device
        return model_writer
    from stages.data.longqa.endpoint_writer import EndpointWriter

    return EndpointWriter(config, kept, context.stop)


def _pieces(config: LongqaConfig, sources: Sequence[Source], tally: Tally) -> Generator[Piece]:
    """The pieces to write: long ones, and short ones where they are kept."""
    workers = config.workers or available_cpus()
    batches = _batches(sources, config.text_field)
    made = parallel_map(partial(piece_maker, PieceRules.of(config)), batches, workers)
    with closing(made):
        for batch in made:
            for document in batch:
                tally.read += 1
                tally.cut += len(document) > 1
                for piece in document:
                    tally.longest = max(tally.longest, piece.tokens)
                    if not piece.sampled:
                        tally.short += 1
                        if config.keep_short:
                            yield piece
                    elif config.max_tokens is not None and piece.tokens > config.max_tokens:
                        tally.too_long += 1
                    elif tally.long == config.max_documents:
                        return
                    else:
                        tally.long += 1
                        yield piece


def _batches(sources: Sequence[Source], text_field: str) -> Iterator[list[SourceText]]:
    batch: list[SourceText] = []
    characters = 0
    for source in sources:
        folder = os.path.commonpath([file.parent for file in source.files])
        for file in source.files:
            name = str(file.relative_to(folder))
            for document in read_documents(file, text_field):
                place = name + document.place.removeprefix(str(file))
                batch.append(SourceText(source.name, place, document.text))
                characters += len(document.text)
                if characters >= _BATCH_CHARACTERS:
                    yield batch
                    batch, characters = [], 0
    if batch:
        yield batch


def _with_outcomes(
    writer: PairWriter, pieces: Iterator[Piece]
) -> Iterator[tuple[Piece, list[Pair | NoPair]]]:
    """Each piece with what the writer made of its sampled chunks. The writer may be some pieces ahead."""
    ahead: deque[Piece] = deque()

    def passages() -> Iterator[Passage]:
        for piece in pieces:
            ahead.append(piece)
            for chunk in piece.sampled:
                yield Passage(piece, chunk)

    outcomes: list[Pair | NoPair] = []
    for outcome in writer.write(passages()):
        while not ahead[0].sampled:
            yield ahead.popleft(), []
        outcomes.append(outcome)
        if len(outcomes) == len(ahead[0].sampled):
            yield ahead.popleft(), outcomes
            outcomes = []
    while ahead:
        yield ahead.popleft(), []


def _write(
    config: LongqaConfig,
    tokenizer: TextTokenizer,
    file: DocumentsFile,
    writer: str,
    piece: Piece,
    outcomes: Sequence[Pair | NoPair],
    tally: Tally,
) -> None:
    """Writes a piece with as many of its pairs as there is room for."""
    pairs = [
        (chunk, outcome)
        for chunk, outcome in zip(piece.sampled, outcomes, strict=True)
        if isinstance(outcome, Pair)
    ]
    tally.failures.update(outcome.reason for outcome in outcomes if isinstance(outcome, NoPair))
    wanted = len(pairs)
    text, tokens = piece.text, piece.tokens
    while pairs:
        rendered = [render_pair(pair.question, pair.answer) for _, pair in pairs]
        text = append_pairs(piece.text, rendered)
        tokens = len(tokenizer.backend.encode(text, add_special_tokens=False).ids) + ENDS
        if config.max_tokens is None or tokens <= config.max_tokens:
            break
        pairs.pop()
        text, tokens = piece.text, piece.tokens
    file.write(piece, text, tokens, pairs, writer if pairs else "none")
    tally.kinds.update(pair.kind for _, pair in pairs)
    tally.no_room += wanted - len(pairs)
    tally.written += 1
    tally.without_pairs += bool(piece.sampled) and not pairs
    tally.chunks += piece.chunks
    tally.sampled += len(piece.sampled)
    tally.tokens += tokens
    tally.pair_tokens += tokens - piece.tokens


def _refuse_nothing(config: LongqaConfig, sources: Sequence[Source], tally: Tally) -> None:
    where = ", ".join(str(source.files[0]) for source in sources[:3]) + (", ..." if len(sources) > 3 else "")
    if not tally.read:
        raise ArtifactError("holds no documents", where=where, remedy="give files with text in them")
    if not tally.long and tally.too_long:
        raise ArtifactError(
            f"all {tally.too_long} long documents have more than max_tokens ({config.max_tokens}) before any pair; "
            f"the longest has {tally.longest}",
            where=where,
            remedy="cut them with --document-tokens, or raise --max-tokens",
        )
    if not tally.long:
        raise ArtifactError(
            f"none of {tally.short} documents has min_tokens ({config.min_tokens}); the longest has {tally.longest}",
            where=where,
            remedy="lower --min-tokens, or give longer documents",
        )
    if not tally.kinds.total():
        reasons = "; ".join(f"{reason} ({count} chunks)" for reason, count in tally.failures.most_common(3))
        reasons = reasons or f"no pair fits within max_tokens ({config.max_tokens})"
        raise ArtifactError(
            f"not one pair for {tally.long} documents: {reasons}",
            where=where,
            remedy="raise --share or --chunk-tokens, give other text, or choose another --writer"
            if tally.failures
            else "raise --max-tokens, or lower --document-tokens",
        )


def _result(config: LongqaConfig, tally: Tally, context: StageContext) -> StageResult:
    failed = tally.failures.total()
    notes = [
        f"no pair for {_count(count, 'chunk')}: {reason}" for reason, count in sorted(tally.failures.items())
    ]
    if tally.no_room:
        notes.append(
            f"no room within max_tokens for {_count(tally.no_room, 'pair')}; lower --document-tokens or --share to lose none"
        )
    if tally.without_pairs:
        notes.append(f"written without a pair: {_count(tally.without_pairs, 'long document')}")
    if tally.too_long:
        notes.append(
            f"left out as longer than max_tokens: {_count(tally.too_long, 'document')}; --document-tokens cuts them"
        )
    if tally.long == config.max_documents:
        notes.append(f"stopped after {_count(tally.long, 'document')}, as max_documents says")
    for note in notes:
        context.reporter.warn(note)
    return StageResult(
        metrics={
            "documents": tally.written,
            "pairs": tally.kinds.total(),
            "tokens": tally.tokens,
            "pair_tokens": tally.pair_tokens,
            "documents_read": tally.read,
            "documents_cut": tally.cut,
            "short": tally.short,
            "too_long": tally.too_long,
            "without_pairs": tally.without_pairs,
            "chunks": tally.chunks,
            "sampled_chunks": tally.sampled,
            "chunks_without_pair": failed,
            "pairs_without_room": tally.no_room,
        },
        rows=[{"question": kind, "pairs": count} for kind, count in sorted(tally.kinds.items())],
        notes=notes,
    )


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
