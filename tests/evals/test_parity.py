"""The comparison with transformers: agrees on a healthy model, and names the layer and part of a wrong one."""

import importlib.util
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evals.parity import LogitDifference, Parity, compare
from evals.transformers_peer import TransformersPeer
from model.errors import ArtifactError, PlanRefusedError
from model.hybrid import HybridLM
from model.loading import save
from tests.model.miniatures import miniature, random_ids, randomized

PATTERN = "M-M*-M-*"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    save(randomized(miniature(PATTERN)), path)
    return path


@pytest.fixture(scope="module")
def peer(directory: Path) -> TransformersPeer:
    return TransformersPeer.load(directory)


@pytest.fixture
def lm() -> HybridLM:
    return randomized(miniature(PATTERN))


def parity_of(lm: HybridLM, peer: TransformersPeer) -> Parity:
    return compare(lm, peer, random_ids(lm.config, 1, 40), decode_steps=8)


def test_a_healthy_model_agrees(lm: HybridLM, peer: TransformersPeer) -> None:
    parity = parity_of(lm, peer)
    assert parity.first_divergence is None
    assert [layer.name for layer in parity.layers] == [
        "embeddings", *(f"layers.{index}" for index in range(len(PATTERN))), "norm_f", "lm_head"
    ]  # fmt: skip
    assert all(layer.error < 1e-5 and layer.drift < 1e-5 and not layer.part for layer in parity.layers)
    for difference in (parity.logits, parity.decode, parity.their_decode):
        assert difference is not None
        assert difference.within(1e-4)
        assert difference.cosine > 1 - 1e-9
        assert difference.mean_kl < 1e-9
    assert parity.clamp is None


def test_the_order_of_rows_in_in_proj(lm: HybridLM, peer: TransformersPeer) -> None:
    """B and C exchanged in one layer of one side's weights: that layer is named, those rows, and no other layer."""
    config = lm.config
    first = 2 * config.mamba_width
    width = config.n_groups * config.ssm_state_size
    with torch.no_grad():
        weight = lm.backbone.layers[2].mixer.in_proj.weight
        B, C = weight[first : first + width].clone(), weight[first + width : first + 2 * width].clone()
        weight[first : first + width], weight[first + width : first + 2 * width] = C, B
    parity = parity_of(lm, peer)
    assert parity.first_divergence is not None
    assert (parity.first_divergence.name, parity.first_divergence.part) == ("layers.2", "in_proj (B, C)")
    assert [layer.name for layer in parity.layers if layer.error > 1e-4] == ["layers.2"]
    assert parity.layers[-1].drift > 1e-3
    assert not parity.logits.within(1e-4)


def test_a_wrong_split_in_the_code(
    lm: HybridLM, peer: TransformersPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are right, the code exchanges B and C: in_proj agrees, what follows does not."""
    import model.layers.mamba2 as mamba2

    original = mamba2.chunked_scan

    def exchanged(x: Tensor, dt: Tensor, A_log: Tensor, B: Tensor, C: Tensor, *rest: object) -> object:
        return original(x, dt, A_log, C, B, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(mamba2, "chunked_scan", exchanged)
    parity = parity_of(lm, peer)
    assert parity.first_divergence is not None
    assert (parity.first_divergence.name, parity.first_divergence.part) == ("layers.0", "convolution or scan")


@pytest.mark.parametrize(
    ("parameter", "layer", "part"),
    [
        ("backbone.embeddings.weight", "embeddings", ""),
        ("backbone.layers.0.mixer.A_log", "layers.0", "convolution or scan"),
        ("backbone.layers.0.mixer.conv1d.weight", "layers.0", "convolution or scan"),
        ("backbone.layers.0.mixer.norm.weight", "layers.0", "gated norm"),
        ("backbone.layers.0.mixer.out_proj.weight", "layers.0", "out_proj"),
        ("backbone.layers.1.norm.weight", "layers.1", "pre-norm"),
        ("backbone.layers.1.mixer.up_proj.weight", "layers.1", "up_proj"),
        ("backbone.layers.3.mixer.k_proj.weight", "layers.3", "k_proj"),
        ("backbone.layers.3.mixer.v_proj.weight", "layers.3", "v_proj"),
        ("backbone.norm_f.weight", "norm_f", ""),
        ("lm_head.weight", "lm_head", ""),
    ],
)
def test_names_layer_and_part(
    lm: HybridLM, peer: TransformersPeer, parameter: str, layer: str, part: str
) -> None:
    with torch.no_grad():
        lm.get_parameter(parameter).mul_(1.01)
    found = parity_of(lm, peer).first_divergence
    assert found is not None
    assert (found.name, found.part) == (layer, part)


def test_a_wrong_attention_scale(
    lm: HybridLM, peer: TransformersPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import model.layers.attention as attention

    original = attention.causal_attention
    monkeypatch.setattr(attention, "causal_attention", lambda q, *rest: original(q * 1.1, *rest))
    found = parity_of(lm, peer).first_divergence
    assert found is not None
    assert (found.name, found.part) == ("layers.3", "attention")


def test_not_a_number_is_a_divergence(lm: HybridLM, peer: TransformersPeer) -> None:
    with torch.no_grad():
        lm.get_parameter("backbone.layers.4.mixer.up_proj.weight")[0, 0] = math.nan
    found = parity_of(lm, peer).first_divergence
    assert found is not None
    assert found.name == "layers.4"
    assert not parity_of(lm, peer).logits.within(1e-4)


@pytest.mark.parametrize("loops", [True, False])
def test_a_decode_that_forgets_its_state(
    lm: HybridLM, peer: TransformersPeer, monkeypatch: pytest.MonkeyPatch, loops: bool
) -> None:
    """In the compiled loops and in PyTorch's operations alike: one pass agrees, step by step does not."""
    from model.inference.state import InferenceState, MambaState
    from model.kernels import cpu_decoding

    if not loops:
        monkeypatch.setattr(cpu_decoding, "MOST_NUMBERS", 0)
    original = InferenceState.advance

    def forgetful(self: InferenceState, counts: Sequence[int]) -> None:
        original(self, counts)
        for block in self.blocks:
            if isinstance(block, MambaState):
                block.ssm_BHPN.zero_()

    monkeypatch.setattr(InferenceState, "advance", forgetful)
    parity = parity_of(lm, peer)
    assert parity.first_divergence is None
    assert parity.logits.within(1e-4)
    assert not parity.decode.within(1e-4)


def test_measures_transformers_own_clamp(tmp_path: Path) -> None:
    """A config with the family's usual 0.001 and small time steps: the clamp is measured, and not counted as a fault."""
    lm = randomized(miniature("M-*-"), dt=(1e-5, 1e-4))
    save(lm, tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"time_step_min": 1e-30', '"time_step_min": 0.01'))
    peer = TransformersPeer.load(tmp_path)
    parity = parity_of(lm, peer)
    assert peer.time_step_min == 0.01
    assert parity.clamp is not None
    assert parity.clamp.max_abs > 1e-2
    assert parity.first_divergence is None
    assert parity.logits.within(1e-4)
    assert peer.blocks[0].mixer.time_step_limit[0] == 1e-30


@pytest.mark.parametrize("pattern", ["MM", "*-", "-"])
def test_patterns_of_one_kind(tmp_path: Path, pattern: str) -> None:
    lm = randomized(miniature(pattern))
    save(lm, tmp_path)
    parity = parity_of(lm, TransformersPeer.load(tmp_path))
    assert parity.first_divergence is None
    assert (parity.their_decode is None) == ("*" not in pattern)


def test_two_tokens_are_enough(lm: HybridLM, peer: TransformersPeer) -> None:
    assert compare(lm, peer, random_ids(lm.config, 1, 2)).decode.within(1e-4)


def test_logit_difference_figures() -> None:
    reference = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    other = torch.tensor([[0.0, 2.5, 2.0], [3.0, 0.0, 0.0]])
    difference = LogitDifference.between(other, reference)
    p, q = reference.double().softmax(1), other.double().softmax(1)
    assert difference.max_abs == pytest.approx(1.5)
    assert difference.top1_agreement == 0.5
    assert difference.largest == 3.0
    assert difference.mean_kl == pytest.approx((p * (p / q).log()).sum(1).mean().item())
    assert difference.cosine == pytest.approx(torch.cosine_similarity(other, reference).mean().item())


def test_transformers_missing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(PlanRefusedError, match="not installed") as caught:
        TransformersPeer.load(directory)
    assert "pip install" in caught.value.remedy


def test_transformers_too_old(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.__version__", "5.2.0")
    with pytest.raises(PlanRefusedError, match=r"5\.2\.0 is too old"):
        TransformersPeer.load(directory)


def test_mamba_ssm_importable(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: found("json") if name == "mamba_ssm" else found(name)
    )
    with pytest.raises(PlanRefusedError, match="mamba-ssm"):
        TransformersPeer.load(directory)


def test_a_checkpoint_that_transformers_reads_in_part(directory: Path, tmp_path: Path) -> None:
    """A tensor that it lacks would be drawn at random there."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((directory / "config.json").read_bytes())
    with pytest.raises(ArtifactError, match=r"missing keys: lm_head\.weight"):
        TransformersPeer.load(tmp_path)


def test_a_config_that_transformers_refuses(directory: Path, tmp_path: Path) -> None:
    """An integer where it insists on a float."""
    config = (directory / "config.json").read_text().replace('"time_step_min": 1e-30', '"time_step_min": 0')
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "model.safetensors").symlink_to(directory / "model.safetensors")
    with pytest.raises(ArtifactError, match="cannot load it"):
        TransformersPeer.load(tmp_path)
