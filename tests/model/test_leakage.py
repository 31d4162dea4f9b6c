"""Packed documents never see each other: what happens in one changes no bit of another's logits and gradients.

The second half removes each reset in turn and asks whether the check notices.
"""

import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import model.kernels.convolution as convolution
import model.kernels.scan as scan
from model.errors import UsageError
from model.hybrid import HybridLM
from model.kernels.documents import Documents
from model.loss import IGNORED, next_token_labels, token_cross_entropy
from tests.model.miniatures import miniature, random_ids, randomized

CHUNK = 16


@pytest.fixture(scope="module")
def lm() -> HybridLM:
    return randomized(miniature("M*M-", chunk_size=CHUNK, conv_kernel=4))


@dataclass
class Pack:
    """One row of documents, end to end."""

    ids_1T: Tensor
    document_ids_1T: Tensor
    spans: list[slice]

    @classmethod
    def of(
        cls, lm: HybridLM, lengths: Sequence[int], names: Sequence[int] | None = None, seed: int = 0
    ) -> "Pack":
        """Random tokens. `names` are the document ids, -1 for padding; they may repeat, not side by side."""
        names = range(len(lengths)) if names is None else names
        ends = torch.tensor(lengths).cumsum(0).tolist()
        return cls(
            random_ids(lm.config, 1, sum(lengths), seed=seed),
            torch.repeat_interleave(torch.tensor(list(names)), torch.tensor(lengths))[None],
            [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)],
        )

    def with_other_neighbours(self, lm: HybridLM, kept: int) -> "Pack":
        """Every token replaced except those of document number `kept`."""
        changed = (
            self.ids_1T + 1 + random_ids(lm.config, *self.ids_1T.shape, seed=77) % 90
        ) % lm.config.vocab_size
        assert (changed != self.ids_1T).all()
        changed[:, self.spans[kept]] = self.ids_1T[:, self.spans[kept]]
        return Pack(changed, self.document_ids_1T, self.spans)


def traces(lm: HybridLM, pack: Pack, number: int) -> list[Tensor]:
    """Of one document: its logits, its loss, and the gradients of that loss for every parameter."""
    logits = lm(pack.ids_1T, pack.document_ids_1T).logits[:, pack.spans[number]]
    labels = next_token_labels(pack.ids_1T, pack.document_ids_1T)
    kept = torch.full_like(labels, IGNORED)
    kept[:, pack.spans[number]] = labels[:, pack.spans[number]]
    hidden = lm.hidden_states(pack.ids_1T, pack.document_ids_1T)
    loss = token_cross_entropy(hidden, lm.lm_head.weight, kept).total
    weighted = loss + (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum()
    return [logits.detach(), loss.detach(), *torch.autograd.grad(weighted, list(lm.parameters()))]


def leaks(lm: HybridLM, pack: Pack) -> bool:
    """Does any document's trace depend on a single bit of its neighbours?"""
    for number in range(len(pack.spans)):
        before = traces(lm, pack, number)
        after = traces(lm, pack.with_other_neighbours(lm, number), number)
        if not all(map(torch.equal, before, after)):
            return True
    return False


def assert_equal_alone(lm: HybridLM, pack: Pack, number: int) -> None:
    """Within 1e-5, a gradient relative to its largest entry."""
    span = pack.spans[number]
    single = Pack(pack.ids_1T[:, span], torch.zeros_like(pack.ids_1T[:, span]), [slice(None)])
    if pack.document_ids_1T[0, span.start] < 0:
        single.document_ids_1T.fill_(-1)  # padding: no labels, alone or not
    for packed, alone in zip(traces(lm, pack, number), traces(lm, single, 0), strict=True):
        torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5 * max(1.0, float(alone.abs().max())))


@given(
    lengths=st.lists(st.integers(1, 2 * CHUNK + 2), min_size=2, max_size=4),
    chunk_aligned=st.booleans(),
    padded=st.booleans(),
    repeated=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=20)
def test_documents_do_not_see_each_other(
    lm: HybridLM, lengths: list[int], chunk_aligned: bool, padded: bool, repeated: bool, seed: int
) -> None:
    """Edges of documents before, on and after edges of chunks; ids that come again later; padding at the end."""
    if chunk_aligned:
        lengths[0] += -lengths[0] % CHUNK
    names = [number % 2 if repeated else number for number in range(len(lengths))]
    if padded:
        names[-1] = -1
    pack = Pack.of(lm, lengths, names, seed)
    assert not leaks(lm, pack)
    for number in range(len(lengths)):
        assert_equal_alone(lm, pack, number)


@pytest.mark.parametrize("first", [1, 2, 3, 4, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_every_offset_from_a_chunk_edge(lm: HybridLM, first: int) -> None:
    pack = Pack.of(lm, (first, 3, CHUNK + 5))
    assert not leaks(lm, pack)
    for number in range(3):
        assert_equal_alone(lm, pack, number)


def test_rows_of_a_batch_may_be_packed_differently(lm: HybridLM) -> None:
    first, second = Pack.of(lm, (9, 24, 7), seed=3), Pack.of(lm, (30, 10), seed=4)
    ids = torch.cat([first.ids_1T, second.ids_1T])
    documents = torch.cat([first.document_ids_1T, second.document_ids_1T])
    with torch.no_grad():
        both = lm(ids, documents).logits
        for row, pack in enumerate((first, second)):
            torch.testing.assert_close(
                both[row : row + 1], lm(pack.ids_1T, pack.document_ids_1T).logits, rtol=0, atol=1e-5
            )


def test_in_bfloat16_too(lm: HybridLM) -> None:
    narrow = randomized(lm.config)
    narrow.compute_dtype = torch.bfloat16
    assert not leaks(narrow, Pack.of(lm, (21, 22, 17)))


def test_one_document_a_row_needs_no_ids(lm: HybridLM) -> None:
    ids = random_ids(lm.config, 2, 40)
    assert torch.equal(lm(ids, torch.full_like(ids, 7)).logits, lm(ids).logits)


def test_document_ids_of_another_shape_are_refused(lm: HybridLM) -> None:
    ids = random_ids(lm.config, 2, 40)
    with pytest.raises(UsageError, match="document ids have shape"):
        lm(ids, torch.zeros(2, 39, dtype=torch.long))


def test_documents_and_a_state_exclude_each_other(lm: HybridLM) -> None:
    ids = random_ids(lm.config, 1, 4)
    with pytest.raises(UsageError, match="together"):
        lm(ids, torch.zeros_like(ids), state=lm.new_state())


# Each reset removed. One of a function's own is edited out of its source; where the text moved on, say so here.
@dataclass(frozen=True)
class Mutation:
    module: types.ModuleType
    function: str
    reset: str
    without: str


MUTATIONS = {
    "scan: pairs within a chunk": Mutation(
        scan,
        "chunked_scan",
        "visible = (visible & (runs_cQ[:, :, None] == runs_cQ[:, None, :]))[:, None]",
        "same = (visible & (runs_cQ[:, :, None] == runs_cQ[:, None, :]))[:, None]; "
        "visible = visible.expand_as(same)",
    ),
    "scan: running sum of the decay": Mutation(
        scan,
        "chunked_scan",
        "a_cHQ = torch.matmul(dt_cHQ * A_H[:, None], visible[:, 0].transpose(1, 2).to(wide))",
        "a_cHQ = (dt_cHQ * A_H[:, None]).cumsum(-1)",
    ),
    "scan: state that enters a chunk": Mutation(
        scan, "chunked_scan", " * (runs_cQ == before_c1)[:, None]", ""
    ),
    "scan: tokens that flow out of a chunk": Mutation(
        scan, "chunked_scan", " * (runs_cQ == runs_cQ[:, -1:])[\n                :, None\n            ]", ""
    ),
    "scan: gradient of the pairs": Mutation(
        scan, "chunked_scan", ".sum(2).mul_(self.visible)", ".sum(2).mul_(self.visible.any(0, keepdim=True))"
    ),
    "scan: gradient of the running sum": Mutation(
        scan, "chunked_scan", "if self.visible.dim() == 2:", "if True:"
    ),
    "convolution: taps": Mutation(convolution, "split_causal_conv", "x_TC[:-back] * same_T1", "x_TC[:-back]"),
    "convolution: gradient": Mutation(convolution, "split_causal_conv", "dpre_TC[back:] * same_T1", "dpre_TC[back:]"),
}  # fmt: skip


def mutated(mutation: Mutation) -> Callable[..., object]:
    assert mutation.module.__file__ is not None
    with open(mutation.module.__file__, encoding="utf-8") as file:
        source = file.read()
    assert source.count(mutation.reset) == 1, (
        "the reset has moved: bring MUTATIONS up to date with the source"
    )
    module = types.ModuleType("mutated")
    module.__dict__["__name__"] = mutation.module.__name__  # dataclasses look their module up
    exec(source.replace(mutation.reset, mutation.without), module.__dict__)
    function: Callable[..., object] = getattr(module, mutation.function)
    return function


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_check_notices_a_missing_reset(lm: HybridLM, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation = MUTATIONS[name]
    monkeypatch.setattr(f"model.layers.mamba2.{mutation.function}", mutated(mutation))
    assert leaks(lm, Pack.of(lm, (21, 22, 17)))


@pytest.mark.parametrize(
    "user", ["mamba2.chunked_scan", "mamba2.split_causal_conv", "attention.causal_attention"]
)
def test_the_check_notices_a_mixer_that_ignores_documents(
    lm: HybridLM, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, function = user.partition(".")
    original = getattr(__import__(f"model.layers.{module}", fromlist=[function]), function)

    def without_documents(*arguments: object) -> object:
        return original(*(None if isinstance(value, Documents) else value for value in arguments))

    monkeypatch.setattr(f"model.layers.{user}", without_documents)
    assert leaks(lm, Pack.of(lm, (21, 22, 17)))
