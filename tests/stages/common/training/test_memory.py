"""The planned memory of a training step against what a process of its own took."""

import pytest

from model.config import HybridConfig
from model.errors import UsageError
from model.parallel.shape import MeshShape
from stages.bench.cpu.measure import measure_training
from stages.bench.cpu.sweep import PRESET, TrainSetting
from stages.bench.isolation import run_isolated
from stages.common.training.memory import TrainingMemory, training_memory
from tests.ranks import run_ranks
from tests.stages.common.training.peak import step_peak


@pytest.mark.parametrize(
    ("batch", "length", "precision", "bound"),
    [
        (4, 512, "float32", 0.15),
        (4, 512, "bfloat16", 0.25),
        pytest.param(1, 512, "float32", 0.15, marks=pytest.mark.slow),
        pytest.param(1, 2048, "float32", 0.15, marks=pytest.mark.slow),
    ],
)
def test_the_plan_is_near_the_measured_peak(batch: int, length: int, precision: str, bound: float) -> None:
    """Where bfloat16 products are taken in float32, copies of their operands come on top of the plan."""
    setting = TrainSetting("nano2", length, batch, precision, "sdpa")
    measured = run_isolated(measure_training, setting, 1, 2).peak_bytes
    planned = training_memory(HybridConfig.preset(PRESET), batch, length, precision, packed=False).total
    assert 1 - bound < planned / measured < 1 + bound


ALL = ("mamba", "attention", "mlp")


@pytest.mark.parametrize(
    ("batch", "length", "precision", "recompute"),
    [
        pytest.param(1, 2048, "float32", (), marks=pytest.mark.slow),
        pytest.param(4, 512, "float32", ALL, marks=pytest.mark.slow),
        pytest.param(4, 512, "float32", ("mamba",), marks=pytest.mark.slow),
        pytest.param(4, 512, "float32", ("mlp",), marks=pytest.mark.slow),
        pytest.param(1, 2048, "float32", ("attention",), marks=pytest.mark.slow),
        pytest.param(1, 2048, "float32", ALL, marks=pytest.mark.slow),
        pytest.param(8, 1024, "float32", ALL, marks=pytest.mark.slow),
    ],
)
def test_packed_rows_and_recomputation_take_what_is_planned(
    batch: int, length: int, precision: str, recompute: tuple[str, ...]
) -> None:
    config = HybridConfig.preset(PRESET)
    measured = run_isolated(step_peak, config, batch, length, precision, recompute)
    planned = training_memory(config, batch, length, precision, recompute=recompute).total
    assert 0.8 < planned / measured < 1.2


@pytest.mark.parametrize(
    ("precision", "recompute", "mesh"),
    [
        pytest.param("float32", (), MeshShape(1, 2, 1), marks=pytest.mark.slow),
        pytest.param("float32", (), MeshShape(2, 1, 1), marks=pytest.mark.slow),
        pytest.param("float32", (), MeshShape(1, 1, 2), marks=pytest.mark.slow),
        pytest.param("bfloat16", (), MeshShape(1, 2, 1), marks=pytest.mark.slow),
        pytest.param("float32", ("mamba", "mlp"), MeshShape(1, 1, 2), marks=pytest.mark.slow),
    ],
)
def test_a_rank_takes_what_is_planned(precision: str, recompute: tuple[str, ...], mesh: MeshShape) -> None:
    config = HybridConfig.preset(PRESET)
    measured = max(run_ranks(mesh.ranks, step_peak, config, 1, 2048, precision, recompute, mesh))
    planned = training_memory(config, 1, 2048, precision, recompute=recompute, mesh=mesh).total
    assert 0.8 < planned / measured < 1.2


def test_recomputation_keeps_inputs_and_one_block() -> None:
    config = HybridConfig.preset(PRESET)
    kept, again = (
        training_memory(config, 2, 512, "float32", recompute=recompute, packed=False)
        for recompute in ((), ("mamba",))
    )
    inputs = 2 * 512 * 4 * config.hidden_size
    blocks = config.pattern.count("M")
    assert again.mamba_activations == blocks * inputs
    assert again.recomputed == kept.mamba_activations // blocks - inputs
    assert (again.attention_activations, again.mlp_activations, again.gradients) == (
        kept.attention_activations,
        kept.mlp_activations,
        kept.gradients,
    )


def test_a_mesh_shares_what_it_is_for() -> None:
    config = HybridConfig.preset(PRESET)

    def of(mesh: MeshShape | None, precision: str = "float32") -> TrainingMemory:
        return training_memory(config, 2, 512, precision, mesh=mesh)

    alone, data, context, tensor = (
        of(mesh) for mesh in (None, MeshShape(4), MeshShape(1, 4), MeshShape(1, 1, 2))
    )
    assert data.optimizer == context.optimizer < 0.26 * alone.optimizer  # vectors and convolutions stay whole
    assert data.activations == alone.activations
    assert context.mlp_activations == alone.mlp_activations / 4
    assert alone.mamba_activations / 4 < context.mamba_activations < alone.mamba_activations / 2
    residual = config.pattern.count("-") * 2 * 512 * 8 * config.hidden_size
    assert tensor.mlp_activations == residual + (alone.mlp_activations - residual) / 2
    assert of(MeshShape(4), "bfloat16").weights == data.weights  # what is gathered is gathered in bfloat16


@pytest.mark.parametrize(
    ("mesh", "length", "message"),
    [
        (MeshShape(1, 3), 512, "rows of 512 tokens have no 3 equal pieces"),
        (MeshShape(1, 256), 512, r"pieces of 2 tokens are shorter than what a convolution remembers \(3\)"),
        (MeshShape(1, 1, 4), 512, "num_key_value_heads is 2"),
    ],
)
def test_what_has_no_equal_parts_is_refused(mesh: MeshShape, length: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        training_memory(HybridConfig.preset(PRESET), 1, length, "float32", mesh=mesh)
