"""Rows in pieces over ranks against whole rows in one process, in float64."""

from collections.abc import Sequence

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from model.config import HybridConfig
from model.errors import UsageError
from model.hybrid import HybridLM
from model.loss import next_token_labels, token_cross_entropy
from model.parallel.context import Context, RowPiece
from tests.model.miniatures import MINIATURES, miniature, random_ids, randomized
from tests.ranks import run_ranks

LENGTH = 48
TOLERANCE = 1e-9

PACKINGS: dict[str, Sequence[int] | None] = {
    "one document": None,
    "borders on pieces' borders": [12, 12, 24],
    "within pieces": [5, 1, 1, 30, 11],
    "all but the first piece is one": [3, 45],
}


def packed(lengths: Sequence[int] | None) -> Tensor | None:
    """[2, LENGTH] document ids; the second row has the documents in reverse order."""
    if lengths is None:
        return None
    ids = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    return torch.stack([ids, ids.flip(0)])


def traces(lm: HybridLM, ids: Tensor, documents: Tensor | None, labels: Tensor) -> list[Tensor]:
    """Hidden states, and the gradients of loss and a weighting of them by every parameter."""
    hidden = lm.hidden_states(ids, documents)
    loss = token_cross_entropy(hidden, lm.lm_head.weight, labels).total
    return [hidden.detach(), *torch.autograd.grad(loss, list(lm.parameters()))]


def in_pieces(config: HybridConfig, lengths: Sequence[int] | None) -> float:
    """The largest relative error of a rank against the whole rows."""
    context = Context(dist.group.WORLD)
    lm = randomized(config, dtype=torch.float64)
    ids, documents = random_ids(config, 2, LENGTH), packed(lengths)
    labels = next_token_labels(ids, documents)
    hidden, *gradients = traces(lm, ids, documents, labels)
    lm.context = context
    cut = None if documents is None else context.cut(documents)
    mine, *parts = traces(lm, context.cut(ids), cut, context.cut(labels))
    errors = [(mine - context.cut(hidden)).norm() / hidden.norm()]
    for part, whole in zip(parts, gradients, strict=True):
        dist.all_reduce(part)
        errors.append((part - whole).norm() / whole.norm())
    return max(map(float, errors))


@pytest.mark.parametrize("packing", list(PACKINGS))
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("name", ["pure-mamba", "pure-attention", "width-unlike-expand", "biases"])
def test_pieces_make_the_whole(name: str, ranks: int, packing: str) -> None:
    assert max(run_ranks(ranks, in_pieces, MINIATURES[name], PACKINGS[packing])) < TOLERANCE


@pytest.mark.parametrize("name", ["nano2-12b-pattern", "nano2-9b-pattern"])
def test_deep_patterns(name: str) -> None:
    assert max(run_ranks(4, in_pieces, MINIATURES[name], PACKINGS["within pieces"])) < TOLERANCE


def leaks(forget: str | None) -> bool:
    """Does a document in the last piece change with one before it? With `forget`, a reset is taken away."""
    if forget == "scan":
        RowPiece.goes_on_BT = property(lambda piece: torch.ones(1, piece.length, dtype=torch.bool))  # type: ignore[assignment]
    if forget == "attention":
        RowPiece.visible_BTS = property(  # type: ignore[assignment]
            lambda piece: torch.ones(1, piece.length, piece.start + piece.length, dtype=torch.bool).tril(
                piece.start
            )
        )
    if forget == "convolution":
        tail = RowPiece.with_tail
        RowPiece.with_tail = lambda piece, x, tokens: (tail(piece, x, tokens)[0], None)  # type: ignore[assignment]
    context = Context(dist.group.WORLD)
    lm = randomized(miniature("M*M-"), dtype=torch.float64)
    lm.context = context
    documents = packed([20, 4, 24])
    assert documents is not None
    ids = random_ids(lm.config, 2, LENGTH)
    changed = torch.where(documents == 2, ids, (ids + 1) % lm.config.vocab_size)
    outputs = [lm.hidden_states(context.cut(each), context.cut(documents)) for each in (ids, changed)]
    kept = context.cut(documents) == 2
    return not torch.equal(outputs[0][kept], outputs[1][kept])


@pytest.mark.parametrize("ranks", [2, 4])
def test_no_bit_of_a_document_depends_on_another(ranks: int) -> None:
    assert not any(run_ranks(ranks, leaks, None))


@pytest.mark.parametrize("forgotten", ["scan", "attention", "convolution"])
def test_the_check_notices_each_reset_that_is_missing(forgotten: str) -> None:
    assert any(run_ranks(2, leaks, forgotten))


def cut_of(length: int) -> None:
    Context(dist.group.WORLD).cut(torch.zeros(1, length))


def short_pieces() -> None:
    lm = randomized(miniature("M", conv_kernel=4))
    lm.context = Context(dist.group.WORLD)
    lm.hidden_states(torch.zeros(1, 2, dtype=torch.long))


def test_rows_without_equal_pieces_are_refused() -> None:
    with pytest.raises(UsageError, match="rows of 5 tokens have no 2 equal pieces"):
        run_ranks(2, cut_of, 5)


def test_pieces_that_a_convolution_reaches_across_are_refused() -> None:
    with pytest.raises(UsageError, match="shorter than what a convolution remembers"):
        run_ranks(2, short_pieces)
