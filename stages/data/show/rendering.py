"""Rows of tokens and histograms for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from stages.common.data.packing import PADDING_DOCUMENT
from stages.data.show.inspection import ShownRow

SHOWN_TOKENS = 1024
_STRIPES = ("on grey23", "on grey35")
_OUTSIDE_LOSS = "dim"
_CONTROL = "bold black on yellow"
_TRAINED = ("black on green3", "black on spring_green3")
_CONTEXT_TOKENS = 100  # of what is not trained, around what is
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
    """One row: tokens on stripes of two shades, or with `|` between them where there is no colour.

    by_mask: what is trained is on green or, without colour, between `[+` and `+]`; of long stretches that are not, only the
    ends are shown.
    """

    row: ShownRow
    vocabulary: Vocabulary
    by_mask: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        row = self.row
        documents = len(set(row.document_ids[row.document_ids >= 0].tolist()))
        title = f"{row.title}: {len(row.input_ids)} tokens, documents: {documents}"
        if self.by_mask:
            trained = int(row.in_loss.sum())
            share = trained / max(len(row.input_ids), 1)
            title = f"{row.title}: {len(row.input_ids)} tokens, {trained} trained ({share:.0%})"
        yield Text(title, style="bold cyan")
        if row.problem is not None:
            yield Text(f"refused: {row.problem.what}", style="bold red")
            yield Text(f"next: {row.problem.remedy}")
        yield self._tokens(coloured=console.color_system is not None)
        yield Text()

    def _tokens(self, *, coloured: bool) -> Text:
        text = Text()
        in_loss = self.row.in_loss
        ids, documents = self.row.input_ids.tolist(), self.row.document_ids.tolist()
        hidden = _hidden(in_loss) if self.by_mask else np.zeros(len(ids), np.bool_)
        shown = np.flatnonzero(~hidden)[:SHOWN_TOKENS].tolist()
        previous = documents[0] if documents else 0
        last = -1
        for place in shown:
            if place > last + 1:
                text.append(f"\n[... {place - last - 1} tokens ...]\n", style=_OUTSIDE_LOSS)
            last = place
            if documents[place] != previous:
                text.append("\n")
                if documents[place] < 0:
                    text.append(f"[padding: {documents.count(PADDING_DOCUMENT)} tokens]", style=_OUTSIDE_LOSS)
                    break
                text.append(f"-- document {documents[place]} --\n", style="cyan")
                previous = documents[place]
            spelled = _visible(self.vocabulary.spell(ids[place]))
            style = self._style(ids[place], place, bool(in_loss[place]))
            text.append(spelled if coloured else self._marked(spelled, in_loss, place), style=style)
        else:
            if last + 1 < len(ids):
                text.append(f"\n[{len(ids) - last - 1} more tokens]", style=_OUTSIDE_LOSS)
        return text

    def _style(self, token: int, place: int, in_loss: bool) -> str:
        is_control = token in self.vocabulary.names
        if self.by_mask and in_loss:
            return f"{'bold ' if is_control else ''}{_TRAINED[place % 2]}"
        style = _CONTROL if is_control and not self.by_mask else _STRIPES[place % 2]
        return style if in_loss else f"{_OUTSIDE_LOSS} {style}"

    def _marked(self, spelled: str, in_loss: NDArray[np.bool_], place: int) -> str:
        """A token as it is told from the next one, and the trained from the others, without colour."""
        if not (self.by_mask and in_loss[place]):
            return f"{spelled}|"
        begins = place == 0 or not in_loss[place - 1]
        ends = place + 1 == len(in_loss) or not in_loss[place + 1]
        return f"{'[+' if begins else ''}{spelled}{'+]' if ends else '|'}"


def _hidden(in_loss: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The middle of each long stretch without a trained token."""
    hidden = ~in_loss
    edges = np.flatnonzero(np.diff(np.concatenate([[False], in_loss, [False]])))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        hidden[max(start - _CONTEXT_TOKENS, 0) : end + _CONTEXT_TOKENS] = False
    hidden[:_CONTEXT_TOKENS] = False
    return hidden


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
