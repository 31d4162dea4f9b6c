"""Pruned models, written to files and read again, against the models they come from."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.artifact.weights import CheckpointFiles
from model.config import HybridConfig
from model.errors import ArtifactError
from model.hybrid import HybridLM
from model.layers.attention import Attention
from model.layers.mamba2 import Mamba2
from model.layers.mlp import MLP
from model.loading import save
from stages.common.training.batches import TrainingData
from stages.prune.kept import Kept, Shape, choose
from stages.prune.slicing import sliced
from tests.model.miniatures import MINIATURES, miniature, randomized
from tests.stages.prune.miniature_runs import (
    logit_error,
    measured,
    packed_rows,
    prune_to,
    pruned,
    smaller,
)
from tests.stages.prune.planting import (
    kill_attention_heads,
    kill_hidden,
    kill_layer,
    kill_mamba_channels,
    kill_mamba_heads,
    kill_neurons,
)
from tests.stages.prune.symmetry import Permutation, permuted

CONFIG = miniature("M-M*-M", use_bias=True, mlp_bias=True)
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return packed_rows(tmp_path_factory.mktemp("data"))


def _without(count: int, dead: set[int]) -> tuple[int, ...]:
    return tuple(index for index in range(count) if index not in dead)


def _mixers(lm: HybridLM, kind: type) -> dict[int, torch.nn.Module]:
    blocks = enumerate(lm.backbone.layers)
    return {number: block.mixer for number, block in blocks if isinstance(block.mixer, kind)}


@torch.no_grad()
def _assert_same_logits(small: HybridLM, lm: HybridLM, data: TrainingData) -> None:
    batch = data.rows([("a", 0)])
    largest = float(lm(batch.input_ids_BT, batch.document_ids_BT).logits.abs().max())
    assert logit_error(small, lm, data) < TOLERANCE * max(1.0, largest)


def test_dead_channels_go(data: TrainingData, tmp_path: Path) -> None:
    lm = randomized(CONFIG)
    kill_hidden(lm, [3, 7, 39])
    kept, small = pruned(lm, data, tmp_path, hidden=37)
    assert kept.hidden == _without(40, {3, 7, 39})
    _assert_same_logits(small, lm, data)


def test_dead_channels_go_where_the_residual_stream_is_below_the_epsilon(
    data: TrainingData, tmp_path: Path
) -> None:
    lm = randomized(CONFIG.model_copy(update={"layer_norm_epsilon": 0.5}))
    kill_hidden(lm, range(20))
    kept, small = pruned(lm, data, tmp_path, hidden=20)
    assert kept.hidden == tuple(range(20, 40))
    _assert_same_logits(small, lm, data)


def test_dead_neurons_go(data: TrainingData, tmp_path: Path) -> None:
    lm = randomized(CONFIG)
    dead = {1: [5, 6], 4: [0, 55]}
    for number, mixer in _mixers(lm, MLP).items():
        kill_neurons(mixer, dead[number])
    kept, small = pruned(lm, data, tmp_path, ffn=54)
    assert kept.neurons == {number: _without(56, set(gone)) for number, gone in dead.items()}
    _assert_same_logits(small, lm, data)


def test_dead_mamba_heads_go(data: TrainingData, tmp_path: Path) -> None:
    lm = randomized(CONFIG)
    dead = {0: [0, 3], 2: [1, 2], 5: [1, 3]}
    for number, mixer in _mixers(lm, Mamba2).items():
        kill_mamba_heads(mixer, dead[number])
    kept, small = pruned(lm, data, tmp_path, mamba_heads=2)
    assert kept.mamba_heads == {number: _without(4, set(gone)) for number, gone in dead.items()}
    _assert_same_logits(small, lm, data)


def test_dead_mamba_channels_go(data: TrainingData, tmp_path: Path) -> None:
    lm = randomized(CONFIG)
    dead = {0: [0, 3], 2: [1, 2], 5: [3, 15]}
    for number, mixer in _mixers(lm, Mamba2).items():
        kill_mamba_channels(mixer, dead[number])
    kept, small = pruned(lm, data, tmp_path, mamba_head_dim=14)
    assert kept.mamba_channels == {number: _without(16, set(gone)) for number, gone in dead.items()}
    _assert_same_logits(small, lm, data)


def test_dead_attention_heads_go(data: TrainingData, tmp_path: Path) -> None:
    lm = randomized(CONFIG)
    kill_attention_heads(_mixers(lm, Attention)[3], [1, 2])
    kept, small = pruned(lm, data, tmp_path, attention_heads=2)
    assert kept.attention_heads == {3: (0, 3)}
    _assert_same_logits(small, lm, data)


def test_dead_layers_go(data: TrainingData, tmp_path: Path) -> None:
    lm = randomized(CONFIG)
    for block in (2, 4):
        kill_layer(lm, block)
    kept, small = pruned(lm, data, tmp_path, layers=4)
    assert kept.layers == (0, 1, 3, 5)
    assert small.config.pattern == "M-*M"
    _assert_same_logits(small, lm, data)


@st.composite
def _plantings(draw: st.DrawFn) -> tuple[HybridConfig, dict[str, int], int]:
    """A shape, how many units of each kind are dead (heads: of each group), and a seed."""
    kinds = draw(st.lists(st.sampled_from("M-*"), min_size=1, max_size=5))
    groups, group_heads = draw(st.integers(1, 3)), draw(st.integers(2, 3))
    kv_heads, group_queries = draw(st.integers(1, 2)), draw(st.integers(2, 3))
    config = miniature(
        "".join(kinds),
        hidden_size=draw(st.integers(9, 24)),
        intermediate_size=draw(st.integers(8, 30)),
        n_groups=groups,
        mamba_num_heads=groups * group_heads,
        mamba_head_dim=draw(st.integers(3, 9)),
        num_key_value_heads=kv_heads,
        num_attention_heads=kv_heads * group_queries,
        head_dim=8,
        conv_kernel=draw(st.integers(2, 4)),
        use_bias=draw(st.booleans()),
        mlp_bias=draw(st.booleans()),
        use_conv_bias=draw(st.booleans()),
    )
    dead = {
        "hidden": draw(st.integers(0, 4)),
        "neurons": draw(st.integers(0, 5)),
        "mamba_heads": draw(st.integers(0, group_heads - 1)),
        "mamba_channels": draw(st.integers(0, 2)),
        "attention_heads": draw(st.integers(0, group_queries - 1)),
    }
    return config, dead, draw(st.integers(0, 1000))


@settings(max_examples=20)
@given(planting=_plantings())
def test_whatever_is_dead_goes_together(
    planting: tuple[HybridConfig, dict[str, int], int], data: TrainingData
) -> None:
    """In float64: of a head of three channels little may be left, and float32 rounds it."""
    config, dead, seed = planting
    lm = randomized(config, seed, torch.float64)
    generator = torch.Generator().manual_seed(seed)

    def some(size: int, count: int) -> list[int]:
        return sorted(torch.randperm(size, generator=generator)[:count].tolist())

    def some_of_each(heads: int, groups: int, count: int) -> list[int]:
        size = heads // groups
        return [group * size + index for group in range(groups) for index in some(size, count)]

    hidden = some(config.hidden_size, dead["hidden"])
    expected: dict[str, dict[int, tuple[int, ...]]] = {"neurons": {}, "mamba_heads": {}, "mamba_channels": {}}
    expected["attention_heads"] = {}
    kill_hidden(lm, hidden)
    for number, mixer in _mixers(lm, MLP).items():
        gone = some(config.intermediate_size, dead["neurons"])
        kill_neurons(mixer, gone)
        expected["neurons"][number] = _without(config.intermediate_size, set(gone))
    for number, mixer in _mixers(lm, Mamba2).items():
        gone = some(config.mamba_head_dim, dead["mamba_channels"])
        kill_mamba_channels(mixer, gone)
        expected["mamba_channels"][number] = _without(config.mamba_head_dim, set(gone))
        gone = some_of_each(config.mamba_num_heads, config.n_groups, dead["mamba_heads"])
        kill_mamba_heads(mixer, gone)
        expected["mamba_heads"][number] = _without(config.mamba_num_heads, set(gone))
    for number, mixer in _mixers(lm, Attention).items():
        gone = some_of_each(config.num_attention_heads, config.num_key_value_heads, dead["attention_heads"])
        kill_attention_heads(mixer, gone)
        expected["attention_heads"][number] = _without(config.num_attention_heads, set(gone))

    with tempfile.TemporaryDirectory() as folder:
        kept, small = pruned(
            lm,
            data,
            Path(folder),
            hidden=config.hidden_size - dead["hidden"],
            ffn=config.intermediate_size - dead["neurons"],
            mamba_heads=config.mamba_num_heads - dead["mamba_heads"] * config.n_groups,
            mamba_head_dim=config.mamba_head_dim - dead["mamba_channels"],
            attention_heads=config.num_attention_heads - dead["attention_heads"] * config.num_key_value_heads,
        )
        assert kept == Kept(
            layers=tuple(range(len(config.pattern))),
            hidden=_without(config.hidden_size, set(hidden)),
            **expected,
        )
        _assert_same_logits(small, lm, data)


@pytest.mark.parametrize("name", list(MINIATURES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pruning_nothing_changes_no_bit(
    name: str, dtype: torch.dtype, data: TrainingData, tmp_path: Path
) -> None:
    lm = randomized(MINIATURES[name], dtype=dtype)
    importance = measured(lm, data, tmp_path / "run", samples=2)
    kept = choose(importance, lm.config, Shape.of(lm.config))
    small = prune_to(lm, importance, kept, tmp_path)
    assert small.config == lm.config
    whole, new = tmp_path / "whole", tmp_path / "pruned"
    for file in ("model.safetensors", "config.json", "generation_config.json"):
        assert (whole / file).read_bytes() == (new / file).read_bytes()


AXES: dict[str, Mapping[str, int]] = {
    "layers": {"layers": 4},
    "hidden": {"hidden": 29},
    "ffn": {"ffn": 31},
    "mamba_heads": {"mamba_heads": 2},
    "mamba_head_dim": {"mamba_head_dim": 11},
    "attention_heads": {"attention_heads": 2},
    "all": {
        "layers": 5, "hidden": 29, "ffn": 31, "mamba_heads": 2, "mamba_head_dim": 11, "attention_heads": 2
    },
}  # fmt: skip


@pytest.mark.parametrize("axis", AXES)
def test_what_stays_is_a_part_of_what_was(axis: str, data: TrainingData, tmp_path: Path) -> None:
    """By each tensor's own axes; but for the scales of norms and of what writes to the residual stream, where other axes
    of theirs are cut, every number is the old one."""
    lm = randomized(CONFIG, dtype=torch.bfloat16)
    kept, small = pruned(lm, data, tmp_path, **AXES[axis])
    E, W = lm.config.mamba_width, lm.config.conv_width
    hidden = torch.tensor(kept.hidden)
    for number, block in enumerate(kept.layers):
        old, new = lm.backbone.layers[block].mixer, small.backbone.layers[number].mixer
        if isinstance(old, MLP):
            rows = torch.tensor(kept.neurons[block])
            assert torch.equal(new.up_proj.weight, old.up_proj.weight[rows][:, hidden])
            assert torch.equal(new.up_proj.bias, old.up_proj.bias[rows])
            _assert_proportional(new.down_proj.weight, old.down_proj.weight[hidden][:, rows], axis)
        elif isinstance(old, Attention):
            rows = torch.cat(
                [torch.arange(12 * head, 12 * head + 12) for head in kept.attention_heads[block]]
            )
            assert torch.equal(new.q_proj.weight, old.q_proj.weight[rows][:, hidden])
            assert torch.equal(new.k_proj.weight, old.k_proj.weight[:, hidden])
            assert torch.equal(new.v_proj.weight, old.v_proj.weight[:, hidden])
            _assert_proportional(new.o_proj.weight, old.o_proj.weight[hidden][:, rows], axis)
        else:
            assert isinstance(old, Mamba2)
            heads = torch.tensor(kept.mamba_heads[block])
            inner = torch.arange(E).view(4, 16)[heads][:, list(kept.mamba_channels[block])].flatten()
            z, x, BC, dt = old.in_proj.weight.split([E, E, W - E, 4])
            expected = torch.cat([z[inner], x[inner], BC, dt[heads]])[:, hidden]
            assert torch.equal(new.in_proj.weight, expected)
            x, BC = old.conv1d.weight.split([E, W - E])
            assert torch.equal(new.conv1d.weight, torch.cat([x[inner], BC]))
            for name in ("A_log", "D", "dt_bias"):
                assert torch.equal(getattr(new, name), getattr(old, name)[heads])
            _assert_proportional(new.out_proj.weight, old.out_proj.weight[hidden][:, inner], axis)
    assert torch.equal(small.lm_head.weight, lm.lm_head.weight[:, hidden])
    _assert_proportional(small.backbone.embeddings.weight, lm.backbone.embeddings.weight[:, hidden], axis)
    assert all(parameter.dtype == torch.bfloat16 for parameter in small.parameters())


@torch.no_grad()
def _assert_proportional(new: torch.Tensor, old: torch.Tensor, axis: str) -> None:
    """Equal where no norm loses channels, else in one ratio, rounded to bfloat16."""
    assert new.shape == old.shape
    if axis in ("layers", "ffn", "attention_heads"):
        assert torch.equal(new, old)
    else:
        ratio = float((new.double() * old.double()).sum() / old.double().square().sum())
        torch.testing.assert_close(new.double(), ratio * old.double(), rtol=2**-8, atol=1e-6)


@torch.no_grad()
def test_live_neurons_and_heads_go_as_if_they_were_silenced(data: TrainingData, tmp_path: Path) -> None:
    lm = randomized(CONFIG)
    kept, small = pruned(lm, data, tmp_path, ffn=31, attention_heads=2, layers=5)
    (gone,) = set(range(6)) - set(kept.layers)
    kill_layer(lm, gone)
    for block, neurons in kept.neurons.items():
        silent = [index for index in range(56) if index not in neurons]
        lm.backbone.layers[block].mixer.down_proj.weight[:, silent] = 0
    for block, heads in kept.attention_heads.items():
        for head in set(range(4)) - set(heads):
            lm.backbone.layers[block].mixer.o_proj.weight[:, 12 * head : 12 * head + 12] = 0
    _assert_same_logits(small, lm, data)


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_units_does_not_matter(seed: int, data: TrainingData, tmp_path: Path) -> None:
    lm = randomized(CONFIG, seed)
    order = Permutation.random(CONFIG, seed)
    other = permuted(lm, order)
    _assert_same_logits(other, lm, data)  # a symmetry of the whole model
    kept, small = pruned(lm, data, tmp_path / "one", **AXES["all"])
    their, their_small = pruned(other, data, tmp_path / "other", **AXES["all"])
    assert their.layers == kept.layers

    def named(kept: tuple[int, ...], old: torch.Tensor) -> list[int]:
        return sorted(int(old[index]) for index in kept)

    assert named(their.hidden, order.hidden) == list(kept.hidden)
    for axis in ("neurons", "mamba_heads", "mamba_channels", "attention_heads"):
        for block, units in getattr(kept, axis).items():
            assert named(getattr(their, axis)[block], getattr(order, axis)) == list(units)
    _assert_same_logits(their_small, small, data)


def test_kept_scales_are_better_than_changed_ones(data: TrainingData, tmp_path: Path) -> None:
    """Channels quiet and loud, none of them dead: what a norm gives for those that stay keeps its size."""
    lm = randomized(CONFIG)
    with torch.no_grad():
        lm.backbone.embeddings.weight *= torch.linspace(0.1, 2, 40)
    kept, small = pruned(lm, data, tmp_path, hidden=20)
    batch = data.rows([("a", row) for row in range(4)])
    real = batch.document_ids_BT >= 0
    block, small_block = lm.backbone.layers[0], small.backbone.layers[0]
    with torch.no_grad():
        before = block.norm(lm.backbone.embeddings(batch.input_ids_BT))[real][:, list(kept.hidden)]
        after = small_block.norm(small.backbone.embeddings(batch.input_ids_BT))[real]
        unscaled = after * block.norm.weight[list(kept.hidden)] / small_block.norm.weight
    assert float(after.norm() / before.norm()) == pytest.approx(1, abs=0.05)
    assert float(unscaled.norm() / before.norm()) < 0.85


def test_each_norm_is_scaled_by_its_own_energy(data: TrainingData, tmp_path: Path) -> None:
    lm = randomized(CONFIG)
    with torch.no_grad():
        lm.backbone.embeddings.weight *= torch.linspace(0.1, 2, 40)
    importance = measured(lm, data, tmp_path / "run")
    kept = choose(importance, CONFIG, smaller(CONFIG, hidden=20))
    small = prune_to(lm, importance, kept, tmp_path)
    norms = [
        [*(block.norm for block in model.backbone.layers), model.backbone.norm_f] for model in (lm, small)
    ]
    scales = []
    for energy_D, old, new in zip(importance.widths.residual_energy, *norms, strict=True):
        scales.append(float((energy_D[list(kept.hidden)].mean() / energy_D.mean()).sqrt()))
        torch.testing.assert_close(new.weight, scales[-1] * old.weight[list(kept.hidden)])
    assert max(scales) / min(scales) > 1.1


def test_a_head_in_another_group_is_scaled_from_its_own(data: TrainingData, tmp_path: Path) -> None:
    """Heads 2 and 3 were the second group; of a global ranking, head 2 alone becomes the first."""
    lm = randomized(CONFIG)
    importance = measured(lm, data, tmp_path / "run")
    importance.widths.mamba[0][:2] = 0
    kept = choose(importance, CONFIG, smaller(CONFIG, mamba_heads=2), mamba_ranking="global")
    assert kept.mamba_heads[0] == (2, 3)
    old, new = (
        model.backbone.layers[0].mixer.norm.weight for model in (lm, prune_to(lm, importance, kept, tmp_path))
    )
    energy_HP = importance.widths.gated_energy[0]
    for place, head in enumerate((2, 3)):
        scale = (energy_HP[head].mean() / energy_HP[2:].mean()).sqrt()
        rows = old[16 * head : 16 * head + 16]
        torch.testing.assert_close(new[16 * place : 16 * place + 16], scale * rows)


def test_tensors_come_in_order_of_name(data: TrainingData, tmp_path: Path) -> None:
    """As `save` writes them, so that shards hold the same tensors."""
    lm = randomized(MINIATURES["nano2-9b-pattern"])
    save(lm, tmp_path)
    importance = measured(lm, data, tmp_path / "run", samples=1)
    kept = choose(importance, lm.config, smaller(lm.config, hidden=9))
    names = [name for name, _ in sliced(CheckpointFiles(tmp_path), lm.config, kept, importance)]
    assert names == sorted(lm.state_dict())


def test_a_nan_weight_is_named(data: TrainingData, tmp_path: Path) -> None:
    lm = randomized(CONFIG)
    importance = measured(lm, data, tmp_path / "run")
    with torch.no_grad():
        lm.backbone.layers[4].mixer.up_proj.weight[0, 0] = float("nan")
    (tmp_path / "model").mkdir()
    save(lm, tmp_path / "model")
    kept = choose(importance, CONFIG, smaller(CONFIG, hidden=20))
    with pytest.raises(ArtifactError, match=r"tensor backbone.layers.4.mixer.up_proj.weight holds 1 NaN"):
        dict(sliced(CheckpointFiles(tmp_path / "model"), CONFIG, kept, importance))


def test_weights_of_another_config_are_refused(data: TrainingData, tmp_path: Path) -> None:
    lm = randomized(CONFIG)
    importance = measured(lm, data, tmp_path / "run")
    (tmp_path / "model").mkdir()
    save(randomized(miniature("M-M*-M")), tmp_path / "model")
    kept = choose(importance, CONFIG, smaller(CONFIG, hidden=20))
    with pytest.raises(ArtifactError, match=r"tensor .* is missing"):
        dict(sliced(CheckpointFiles(tmp_path / "model"), CONFIG, kept, importance))
