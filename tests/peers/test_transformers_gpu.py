"""The core's kernels on a GPU against a float64 reference, with transformers on mamba-ssm's kernels as the measure.

Logits and gradients of every choice of kernels are no further off than transformers' are."""

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor

from model import HybridConfig, HybridLM
from model.kernels import choice
from model.loss import IGNORED, next_token_labels, token_cross_entropy
from stages.bench.peer import transformers_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.skipif(importlib.util.find_spec("mamba_ssm") is None, reason="mamba-ssm is absent"),
]

LENGTH = 640
SHAPES = {
    "nano-12b's heads": {"mamba_num_heads": 128, "mamba_head_dim": 80, "n_groups": 8, "ssm_state_size": 128},
    "nemotron-h-4b's heads": {
        "mamba_num_heads": 112,
        "mamba_head_dim": 64,
        "n_groups": 8,
        "ssm_state_size": 128,
    },
}
WORSE = 1.02
"""How much further off than transformers' an error may be: norms of two roundings of thousands of numbers are that alike."""

Results = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _own_choice() -> Any:
    yield
    choice.use("auto", torch.device("cuda"), torch.bfloat16)


def _model(shape: str) -> HybridLM:
    torch.manual_seed(0)
    config = HybridConfig.preset(
        "tiny",
        vocab_size=512,
        hidden_size=512,
        pattern="M-M*-M-",
        intermediate_size=2048,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=128,
        chunk_size=128,
        **SHAPES[shape],
    )
    lm = HybridLM(config)
    # Both sides begin from the same bfloat16 weights: what is compared is the arithmetic.
    for parameter in lm.parameters():
        parameter.data = parameter.data.bfloat16().float()
    return lm


def _rows(packed: bool) -> tuple[Tensor, Tensor]:
    ids = torch.randint(0, 512, (2, LENGTH), device="cuda")
    documents = torch.zeros_like(ids)
    if packed:
        documents[0, 200:], documents[1, 77:], documents[1, 413:] = 1, 1, 2
    return ids, documents


def _ours(lm: HybridLM, ids: Tensor, documents: Tensor, packed: bool) -> Results:
    lm.zero_grad()
    given = documents if packed else None
    hidden = lm.hidden_states(ids, given)
    loss = token_cross_entropy(hidden, lm.lm_head.weight, next_token_labels(ids, documents))
    (loss.total / loss.count).backward()
    results = {name: p.grad.double() for name, p in lm.named_parameters() if p.grad is not None}
    return results | {"logits": lm.logits(hidden).detach().double()}


def _theirs(lm: HybridLM, ids: Tensor, documents: Tensor, packed: bool) -> Results:
    model: Any = transformers_model(lm, "sdpa").to("cuda", torch.bfloat16).train()
    labels = next_token_labels(ids, documents)
    rows = []
    for b in range(len(ids)):  # packed rows are one row to it
        arguments: dict[str, Any] = {}
        if packed:
            starts = torch.cat([documents.new_ones(1), documents[b].diff()]).nonzero()[:, 0]
            lengths = torch.cat([starts, starts.new_tensor([LENGTH])]).diff().tolist()
            positions = torch.cat([torch.arange(n, device="cuda") for n in lengths])[None]
            arguments = {"position_ids": positions, "seq_idx": documents[b : b + 1].int().contiguous()}
        rows.append(model(input_ids=ids[b : b + 1], use_cache=False, **arguments).logits)
    logits = torch.cat(rows)
    loss = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED
    )
    loss.backward()
    names = {name: name.replace("model.", "backbone.", 1) for name, _ in model.named_parameters()}
    results = {names[name]: p.grad.double() for name, p in model.named_parameters()}
    return results | {"logits": logits.detach().double()}


def _error(results: Results, exact: Results) -> dict[str, float]:
    """Relative distance from the exact numbers: of the logits, and of all gradients together."""
    names = sorted(set(exact) - {"logits"})
    off = sum(float((results[name] - exact[name]).square().sum()) for name in names) ** 0.5
    size = sum(float(exact[name].square().sum()) for name in names) ** 0.5
    logits = float((results["logits"] - exact["logits"]).norm() / exact["logits"].norm())
    return {"logits": logits, "gradients": off / size}


@pytest.mark.parametrize("packed", [False, True], ids=["whole rows", "packed"])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_further_from_float64_than_transformers(shape: str, packed: bool) -> None:
    lm = _model(shape)
    ids, documents = _rows(packed)
    exact_lm = HybridLM(lm.config)
    exact_lm.load_state_dict(lm.state_dict())
    exact = _ours(exact_lm.to("cuda", torch.float64), ids, documents, packed)
    theirs = _error(_theirs(lm, ids, documents, packed), exact)
    lm = lm.cuda()
    lm.compute_dtype = torch.bfloat16
    errors = {}
    for kernels in ("fused", "pytorch"):
        choice.use(kernels, lm.device, torch.bfloat16)
        errors[kernels] = _error(_ours(lm, ids, documents, packed), exact)
    print(shape, "packed" if packed else "whole", "transformers", theirs, errors)
    for kernels, error in errors.items():
        for figure, value in error.items():
            assert value <= WORSE * theirs[figure], (kernels, figure)


def test_a_document_does_not_depend_on_another_to_the_last_bit() -> None:
    lm = _model("nano-12b's heads").cuda()
    lm.compute_dtype = torch.bfloat16
    ids, documents = _rows(True)
    changed = ids.clone()
    changed[1, :413] = (changed[1, :413] + 7) % 512
    with torch.no_grad():
        before, after = (lm(x, documents).logits[1, 413:] for x in (ids, changed))
    assert torch.equal(before, after)


def test_fused_kernels_are_refused_where_they_compute_in_nothing_that_was_asked_for() -> None:
    from model.errors import PlanRefusedError

    with pytest.raises(PlanRefusedError, match="bfloat16"):
        choice.use("fused", torch.device("cuda"), torch.float32)
