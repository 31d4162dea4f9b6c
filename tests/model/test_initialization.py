"""Fresh parameters follow the family's rules, and transformers' distributions."""

import math

import pytest
import torch
import torch.nn.functional as F

from model import HybridConfig, HybridLM
from model.initialization import inverse_softplus

CONFIG = HybridConfig.preset("mini-3m", vocab_size=512, use_bias=True, mlp_bias=True, mamba_num_heads=64,
                             mamba_head_dim=8)  # fmt: skip


@pytest.fixture(scope="module")
def lm() -> HybridLM:
    torch.manual_seed(0)
    return HybridLM(CONFIG)


def test_every_parameter_is_drawn(lm: HybridLM) -> None:
    """None is left as allocated; only norms, D and biases are constant."""
    for name, parameter in lm.named_parameters():
        assert torch.isfinite(parameter).all(), name
        constant = bool((parameter == parameter.flatten()[0]).all())
        conv_bias = name.endswith("conv1d.bias")
        assert constant == (
            name.endswith((".bias", "norm.weight", "norm_f.weight", ".D")) and not conv_bias
        ), name


def test_matrices_and_embeddings_are_normal(lm: HybridLM) -> None:
    for name, parameter in lm.named_parameters():
        if parameter.dim() == 2 and "out_proj" not in name:
            assert parameter.std().item() == pytest.approx(CONFIG.initializer_range, rel=0.05), name
            assert abs(parameter.mean().item()) < 1e-3, name


def test_mamba_parameters(lm: HybridLM) -> None:
    for block, letter in zip(lm.backbone.layers, CONFIG.pattern, strict=True):
        if letter != "M":
            continue
        mixer = block.mixer
        torch.testing.assert_close(mixer.A_log.exp(), torch.arange(1.0, CONFIG.mamba_num_heads + 1))
        assert (mixer.D == 1).all()
        dt = F.softplus(mixer.dt_bias)
        assert dt.min() >= CONFIG.dt_init_min * 0.999
        assert dt.max() <= CONFIG.dt_init_max * 1.001
        assert mixer.conv1d.weight.abs().max() <= 1 / math.sqrt(CONFIG.conv_kernel)
        assert mixer.conv1d.weight.std().item() == pytest.approx(
            1 / math.sqrt(3 * CONFIG.conv_kernel), rel=0.05
        )
        bound = 1 / math.sqrt(CONFIG.mamba_width) / math.sqrt(CONFIG.num_hidden_layers)
        assert mixer.out_proj.weight.abs().max() <= bound
        assert mixer.out_proj.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_time_steps_are_log_uniform() -> None:
    torch.manual_seed(0)
    wide = HybridLM(HybridConfig.preset("tiny", mamba_num_heads=4096, mamba_head_dim=1, n_groups=1))
    logs = F.softplus(wide.backbone.layers[0].mixer.dt_bias.double()).log()
    uniform = (logs - math.log(CONFIG.dt_init_min)) / math.log(CONFIG.dt_init_max / CONFIG.dt_init_min)
    quantiles = torch.quantile(uniform, torch.linspace(0, 1, 11, dtype=torch.float64))
    torch.testing.assert_close(quantiles, torch.linspace(0, 1, 11, dtype=torch.float64), rtol=0, atol=0.03)


def test_floor_of_the_time_step() -> None:
    lm = HybridLM(HybridConfig.preset("tiny", dt_init_min=1e-8, dt_init_max=1e-7, dt_init_floor=1e-3))
    dt = F.softplus(lm.backbone.layers[0].mixer.dt_bias)
    torch.testing.assert_close(dt, torch.full_like(dt, 1e-3))


def test_without_rescaling_out_proj_is_like_the_others() -> None:
    lm = HybridLM(HybridConfig.preset("mini-3m", vocab_size=64, rescale_prenorm_residual=False))
    assert lm.backbone.layers[0].mixer.out_proj.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_the_seed_decides() -> None:
    def draw(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return HybridLM(HybridConfig.preset("tiny")).state_dict()

    first, again, other = draw(1), draw(1), draw(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_a_fresh_model_guesses_uniformly(lm: HybridLM) -> None:
    ids = torch.randint(CONFIG.vocab_size, (1, 128))
    with torch.no_grad():
        loss = F.cross_entropy(lm(ids).logits[0, :-1], ids[0, 1:])
    assert loss.item() == pytest.approx(math.log(CONFIG.vocab_size), rel=0.02)


@pytest.mark.parametrize("y", [1e-12, 1e-6, 1e-3, 0.1, 1.0, 20.0])
def test_inverse_softplus(y: float) -> None:
    wide = torch.tensor(y, dtype=torch.float64)
    torch.testing.assert_close(torch.log1p(torch.exp(inverse_softplus(wide))), wide, rtol=1e-9, atol=0)


def test_same_distributions_as_transformers(lm: HybridLM) -> None:
    """Standard deviation and largest value of every parameter, drawn with the same settings there.

    Convolutions aside: transformers' base class draws them N(0, initializer_range), Megatron, which trained the family,
    leaves torch's uniform rule.
    """
    transformers = pytest.importorskip("transformers")
    raw = CONFIG.to_hf(dtype="float32") | {"time_step_min": CONFIG.dt_init_min}
    for key in ("architectures", "model_type", "dtype", "time_step_limit", "hybrid_override_pattern"):
        del raw[key]
    torch.manual_seed(1)
    theirs = transformers.NemotronHForCausalLM(transformers.NemotronHConfig(**raw)).state_dict()
    for name, tensor in lm.state_dict().items():
        reference = theirs[name.replace("backbone.", "model.")]
        if tensor.numel() < 500 or "conv1d" in name:
            continue
        assert tensor.std().item() == pytest.approx(reference.std().item(), rel=0.1, abs=1e-9), name
        assert tensor.abs().max().item() == pytest.approx(reference.abs().max().item(), rel=0.35), name
