"""Scores against their formulas, written out in float64 over activations that a plain forward pass records."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.hybrid import HybridLM
from model.kernels.documents import Documents
from stages.common.training.batches import Batch, TrainingData
from stages.prune.importance.widths import Widths
from tests.model.miniatures import miniature, randomized
from tests.stages.prune.miniature_runs import ROWS, measured, packed_rows

CONFIG = miniature("M-*M-", use_bias=True, mlp_bias=True)
INNER = CONFIG.mamba_width

AGGREGATES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "mean": lambda values, dim: values.abs().mean(dim),
    "l2": lambda values, dim: values.square().sum(dim).sqrt(),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return packed_rows(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def lm() -> HybridLM:
    return randomized(CONFIG)


@torch.no_grad()
def _activations(lm: HybridLM, batch: Batch) -> dict[str, list[Tensor]]:
    """By name of the unit and block, one [tokens, ...] a row, without padding, in float64."""
    wide = randomized(lm.config, dtype=torch.float64)
    real_BT = batch.document_ids_BT >= 0
    documents = Documents.from_ids(batch.document_ids_BT, batch.input_ids_BT.shape)
    found: dict[str, Tensor] = {}
    x = wide.backbone.embeddings(batch.input_ids_BT)
    for number, block in enumerate(wide.backbone.layers):
        found[f"residual {number}"] = x
        found[f"norm {number}"] = normal = block.norm(x)
        mixer = block.mixer
        letter = lm.config.pattern[number]
        if letter == "-":
            up = normal @ mixer.up_proj.weight.T + mixer.up_proj.bias
            found[f"preactivation {number}"] = up
            found[f"activation {number}"] = up.clamp(min=0) ** 2
        elif letter == "M":
            rows = mixer.in_proj.weight[INNER : 2 * INNER]
            x_part = normal @ rows.T + mixer.in_proj.bias[INNER : 2 * INNER]
            found[f"mamba {number}"] = x_part.unflatten(-1, (4, 16))
            mixer.norm.register_forward_hook(
                lambda _, args, __, n=number: found.update(
                    {f"gated {n}": args[0] * torch.nn.functional.silu(args[1])}
                )
            )
        else:
            mixer.o_proj.register_forward_hook(
                lambda _, args, __, n=number: found.update({f"attention {n}": args[0].unflatten(-1, (4, 12))})
            )
        x = block(x, torch.float64, documents)
    found["residual 5"] = x
    found["norm 5"] = wide.backbone.norm_f(x)
    return {
        name: [row[real] for row, real in zip(value, real_BT, strict=True)] for name, value in found.items()
    }


@pytest.fixture(scope="module")
def activations(lm: HybridLM, data: TrainingData) -> dict[str, list[Tensor]]:
    return _activations(lm, data.rows([("a", row) for row in range(ROWS)]))


def _expected(rows: list[Tensor], over_sequence: str, over_batch: str) -> Tensor:
    per_sample = torch.stack([AGGREGATES[over_sequence](row, 0) for row in rows])
    return AGGREGATES[over_batch](per_sample, 0)


def _assert_equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("neuron_score", ["activation", "preactivation"])
@pytest.mark.parametrize("over_batch", ["mean", "l2"])
@pytest.mark.parametrize("over_sequence", ["mean", "l2"])
def test_scores_are_those_of_the_formulas(
    lm: HybridLM,
    data: TrainingData,
    activations: dict[str, list[Tensor]],
    over_sequence: str,
    over_batch: str,
    neuron_score: str,
    tmp_path: Path,
) -> None:
    widths = measured(
        lm,
        data,
        tmp_path,
        sequence_aggregation=over_sequence,
        batch_aggregation=over_batch,
        neuron_score=neuron_score,
    ).widths

    def expected(name: str) -> Tensor:
        return _expected(activations[name], over_sequence, over_batch)

    _assert_equal(widths.hidden, torch.stack([expected(f"norm {n}") for n in range(6)]).sum(0))
    assert set(widths.neurons) == {1, 4}
    assert set(widths.mamba) == set(widths.gated_energy) == {0, 3}
    assert set(widths.attention_heads) == {2}
    for block, score in widths.neurons.items():
        _assert_equal(score, expected(f"{neuron_score} {block}"))
    for block, score in widths.mamba.items():
        _assert_equal(score, expected(f"mamba {block}"))
    _assert_equal(widths.attention_heads[2], expected("attention 2").square().sum(1).sqrt())


def test_energies_are_shares_of_each_tokens_square(
    lm: HybridLM, data: TrainingData, activations: dict[str, list[Tensor]], tmp_path: Path
) -> None:
    widths = measured(lm, data, tmp_path).widths
    for norm in range(6):
        x = torch.cat(activations[f"residual {norm}"]).square()
        _assert_equal(widths.residual_energy[norm], (x / x.mean(1, keepdim=True)).mean(0))
        torch.testing.assert_close(widths.residual_energy[norm].mean(), torch.tensor(1.0))
    for block, energy_HP in widths.gated_energy.items():
        x = torch.cat(activations[f"gated {block}"]).square().unflatten(1, (2, 32))
        _assert_equal(energy_HP.flatten(), (x / x.mean(2, keepdim=True)).mean(0).flatten())


def test_how_rows_are_batched_changes_nothing(lm: HybridLM, data: TrainingData, tmp_path: Path) -> None:
    one = measured(lm, data, tmp_path / "one", sample_batch=1).widths
    many = measured(lm, data, tmp_path / "many", sample_batch=7).widths
    for name in vars(one):
        a, b = getattr(one, name), getattr(many, name)
        for x, y in zip(a.values(), b.values(), strict=True) if isinstance(a, dict) else [(a, b)]:
            torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-7)


def test_padding_does_not_count(lm: HybridLM, data: TrainingData, tmp_path: Path) -> None:
    """The tokens under padding are changed: nothing else is."""
    batch = data.rows([("a", row) for row in range(ROWS)])
    padding = batch.document_ids_BT < 0
    assert padding.any()

    def read(ids: Tensor) -> Widths:
        from stages.prune.importance.settings import ImportanceSettings
        from stages.prune.importance.widths import WidthMeter

        with WidthMeter(lm, ImportanceSettings()) as meter:
            meter.read(Batch(ids, batch.document_ids_BT, batch.labels_BT))
        return meter.result()

    before, after = read(batch.input_ids_BT), read(batch.input_ids_BT.masked_fill(padding, 5))
    assert torch.equal(before.hidden, after.hidden)
    assert torch.equal(before.residual_energy, after.residual_energy)
    for block in before.mamba:
        assert torch.equal(before.mamba[block], after.mamba[block])
        assert torch.equal(before.gated_energy[block], after.gated_energy[block])


def test_the_model_is_left_as_it_was(lm: HybridLM, data: TrainingData, tmp_path: Path) -> None:
    measured(lm, data, tmp_path)
    assert not any(module._forward_hooks for module in lm.modules())
