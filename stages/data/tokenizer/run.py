"""`nano2 data tokenizer`: passages of the sources in, tokenizer artifact out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from tokenizers import Tokenizer

from model.errors import ArtifactError, UsageError
from stages.common.data.documents import read_documents
from stages.common.data.sources import Source, resolve_sources
from stages.common.reporter import ProgressBar
from stages.common.stage import StageContext, StageResult
from stages.data.tokenizer.chats import chat_texts
from stages.data.tokenizer.config import TokenizerConfig
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer

PASSAGE_CHARACTERS = 4096
HOLD_OUT_EVERY = 64
HELD_OUT_CHARACTERS = 8_000_000


@dataclass
class Passages:
    """The passages of a source, most for training, some kept to measure on."""

    source: Source
    text_field: str
    hold_out: bool
    trained_bytes: int = 0
    held_out: list[str] = field(default_factory=list)

    def training(self, bar: ProgressBar) -> Iterator[str]:
        held_out_characters = 0
        for number, passage in enumerate(_passages(self.source, self.text_field)):
            size = len(passage.encode())
            if (
                self.hold_out
                and number % HOLD_OUT_EVERY == HOLD_OUT_EVERY // 2
                and held_out_characters < HELD_OUT_CHARACTERS
            ):
                self.held_out.append(passage)
                held_out_characters += len(passage)
            else:
                self.trained_bytes += size
                yield passage
            bar.update(size)


def run(config: TokenizerConfig, context: StageContext) -> StageResult:
    """Trains on all sources alike and measures bytes per token on text that was not trained on."""
    for item in config.data:
        if item.weight != 1:
            raise UsageError(
                f"weight {item.weight:g} has no meaning here: a tokenizer counts all text alike",
                where=str(item.path),
                remedy="leave the weight out",
            )
    sources = resolve_sources(item.pair for item in config.data)
    corpus = [Passages(source, config.text_field, hold_out=config.validation is None) for source in sources]
    with context.reporter.progress("reading text and merging", total=None, unit="B") as bar:
        tokenizer = train_tokenizer(
            chain(chain.from_iterable(part.training(bar) for part in corpus), chat_texts(config.chats)),
            config.vocab_size,
        )
    trained_bytes = sum(part.trained_bytes for part in corpus)
    if not trained_bytes:
        raise ArtifactError(
            "there is no text to train on",
            where=", ".join(str(item.path) for item in config.data),
            remedy="give files with text in them",
        )
    save_tokenizer(tokenizer, context.staging)

    vocab_size = tokenizer.get_vocab_size(with_added_tokens=True)
    notes = []
    if vocab_size < config.vocab_size:
        notes.append(
            f"the text has pairs for {vocab_size:,} tokens only, {config.vocab_size - vocab_size:,} fewer than asked"
        )
        context.reporter.warn(notes[-1])
    measured = {part.source.name: part.held_out for part in corpus if part.held_out}
    if config.validation is not None:
        measured = {
            source.name: list(_passages(source, config.text_field))
            for source in resolve_sources([(config.validation, 1.0)])
        }
    if not measured:
        notes.append("the text is too short to hold some out: bytes per token are of the training text")
        measured = {part.source.name: list(_passages(part.source, config.text_field)) for part in corpus}
    compression = {name: _compression(tokenizer, texts) for name, texts in measured.items()}
    total_bytes = sum(n_bytes for n_bytes, _ in compression.values())
    total_tokens = sum(n_tokens for _, n_tokens in compression.values())
    return StageResult(
        metrics={
            "vocab_size": vocab_size,
            "training_bytes": trained_bytes,
            "bytes_per_token": total_bytes / max(total_tokens, 1),
            "measured_bytes": total_bytes,
        },
        rows=[
            {
                "source": name,
                "bytes": n_bytes,
                "tokens": n_tokens,
                "bytes_per_token": n_bytes / max(n_tokens, 1),
            }
            for name, (n_bytes, n_tokens) in compression.items()
        ],
        notes=notes,
    )


def _passages(source: Source, text_field: str) -> Iterator[str]:
    """Documents cut at line ends into passages of some thousands of characters, so that each can be held out."""
    for file in source.files:
        for document in read_documents(file, text_field):
            passage: list[str] = []
            size = 0
            for line in document.text.splitlines(keepends=True) if document.text.strip() else ():
                passage.append(line)
                size += len(line)
                if size >= PASSAGE_CHARACTERS:
                    yield "".join(passage)
                    passage, size = [], 0
            if passage:
                yield "".join(passage)


def _compression(tokenizer: Tokenizer, texts: list[str]) -> tuple[int, int]:
    """Bytes and tokens of the texts."""
    encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    n_tokens = sum(len(item.ids) for item in encoded)
    return sum(len(text.encode()) for text in texts), n_tokens
