"""Rows of tokens and histograms for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from stages.data.show.inspection import ShownRow

SHOWN_TOKENS = 1024
_STRIPES = ("on grey23", "on grey35")
_OUTSIDE_LOSS = "dim"
_CONTROL = "bold black on yellow"
_BAR_CHARACTERS = 40


@dataclass(frozen=True)
class Vocabulary:
    """How to spell each token id: `text_bytes` of ordinary tokens, `names` of added ones."""

    text_bytes: Sequence[bytes]
    names: dict[int, str]

    def spell(self, token: int) -> str:
        """The token's text; bytes that are no whole character as escapes, `<123>` for an id without a token."""
        if token in self.names:
            return self.names[token]
        known = self.text_bytes[token] if token < len(self.text_bytes) else b""
        return known.decode("utf-8", errors="backslashreplace") or f"<{token}>"


@dataclass(frozen=True)
class RowView:
    """One row: tokens on stripes of two shades, or with `|` between them where there is no colour."""

    row: ShownRow
    vocabulary: Vocabulary

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        row = self.row
        documents = len(set(row.document_ids[row.document_ids >= 0].tolist()))
        yield Text(
            f"{row.source} {row.number}: {len(row.input_ids)} tokens, documents: {documents}",
            style="bold cyan",
        )
        yield self._tokens(striped=console.color_system is not None)
        yield Text()

    def _tokens(self, *, striped: bool) -> Text:
        text = Text()
        ids, documents = (
            self.row.input_ids[:SHOWN_TOKENS].tolist(),
            self.row.document_ids[:SHOWN_TOKENS].tolist(),
        )
        in_loss = self.row.in_loss
        previous = documents[0] if documents else 0
        for place, (token, document) in enumerate(zip(ids, documents, strict=True)):
            if document != previous:
                text.append("\n")
                if document < 0:
                    text.append(
                        f"[padding: {int((self.row.document_ids < 0).sum())} tokens]", style=_OUTSIDE_LOSS
                    )
                    break
                text.append(f"-- document {document} --\n", style="cyan")
                previous = document
            style = _CONTROL if token in self.vocabulary.names else _STRIPES[place % 2]
            if not in_loss[place]:
                style = f"{_OUTSIDE_LOSS} {style}"
            spelled = _visible(self.vocabulary.spell(token))
            text.append(spelled if striped else f"{spelled}|", style=style)
        if len(self.row.input_ids) > SHOWN_TOKENS:
            text.append(f"\n[{len(self.row.input_ids) - SHOWN_TOKENS} more tokens]", style=_OUTSIDE_LOSS)
        return text


def _visible(text: str) -> str:
    """Text with control characters as escapes, so that none reaches the terminal; a line end still ends the line."""
    return "".join(
        "\\n\n" if character == "\n" else character if character.isprintable() else ascii(character)[1:-1]
        for character in text
    )


def histogram_table(bins: Iterable[tuple[int, int, int]], title: str) -> Table:
    """Bars of the counts by length."""
    bins = list(bins)
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("tokens", justify="right")
    table.add_column("documents", justify="right")
    table.add_column("")
    most = max((count for *_, count in bins), default=1)
    for low, high, count in bins:
        bar = "#" * max(round(_BAR_CHARACTERS * count / most), 1 if count else 0)
        table.add_row(f"{low:,}-{high:,}" if low < high else f"{high:,}", f"{count:,}", bar)
    return table
