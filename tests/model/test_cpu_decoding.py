"""The compiled loops of a decoding step against PyTorch's operations, and where they may not be used."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from numba import carray
from torch import Tensor

from model.hybrid import HybridLM
from model.inference.state import InferenceState, KeyValueCache
from model.kernels import cpu_decoding, cpu_loops
from model.kernels.choice import describe
from model.kernels.compiled import Loop
from model.kernels.matmul import linear
from model.kernels.normalization import rms_norm
from tests.model.miniatures import MINIATURES, miniature, randomized


@contextmanager
def without_loops() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_decoding, "MOST_NUMBERS", 0)
        yield


@torch.inference_mode()
def decoded(lm: HybridLM, prompt_BT: Tensor, tokens_BT: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Hidden states of `tokens_BT` read one by one behind the prompt, and every tensor of the state at the end."""
    state = lm.new_state(len(prompt_BT))
    lm.hidden_states(prompt_BT, state=state)
    hidden = [lm.hidden_states(token_B1, state=state) for token_B1 in tokens_BT.split(1, dim=1)]
    return torch.cat(hidden, 1), [
        tensor for block in state.blocks if block for tensor in vars(block).values()
    ]


@pytest.mark.parametrize("batch", [1, 3, 9])
@pytest.mark.parametrize("name", MINIATURES)
def test_decoding_equals_pytorch_operations(name: str, batch: int) -> None:
    lm = randomized(MINIATURES[name])
    prompt_BT, tokens_BT = torch.randint(96, (batch, 5)), torch.randint(96, (batch, 6))
    hidden, states = decoded(lm, prompt_BT, tokens_BT)
    with without_loops():
        expected, expected_states = decoded(lm, prompt_BT, tokens_BT)
    torch.testing.assert_close(hidden, expected, rtol=2e-4, atol=2e-4)
    torch.testing.assert_close(states, expected_states, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_rows_of_different_length_see_their_own_tokens(dtype: torch.dtype) -> None:
    """Attention over caches of 3 to 300 tokens, with numbers behind the shorter rows that must not be seen."""
    lm = randomized(miniature("*-*")).to(dtype)
    states = []
    for length in (300, 3, 64, 65):
        state = lm.new_state()
        lm.hidden_states(torch.randint(96, (1, length)), state=state)
        states.append(state)
    ours, expected = InferenceState.join(states), InferenceState.join(states)
    for block in ours.blocks:
        if isinstance(block, KeyValueCache):
            for row, length in enumerate(ours.lengths):
                block.key_BSkh[row, length:] = 1e6
    for _ in range(3):
        tokens_B1 = torch.randint(96, (4, 1))
        hidden = lm.hidden_states(tokens_B1, state=ours)
        with without_loops():
            theirs = lm.hidden_states(tokens_B1, state=expected)
        rounding = 5e-2 if dtype == torch.bfloat16 else 1e-4
        torch.testing.assert_close(hidden, theirs, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("masters", [torch.float32, torch.bfloat16])
def test_bfloat16_decoding_is_as_near_to_float64_as_pytorch_operations(masters: torch.dtype) -> None:
    """With weights in bfloat16, and with float32 masters."""
    config = MINIATURES["eight-groups-conv-3"]
    lm = randomized(config).to(torch.bfloat16).to(masters)
    lm.compute_dtype = torch.bfloat16
    exact = HybridLM(config).double()
    exact.load_state_dict(lm.state_dict())
    prompt_BT, tokens_BT = torch.randint(96, (2, 5)), torch.randint(96, (2, 40))
    ours = decoded(lm, prompt_BT, tokens_BT)[0].double()
    truth = decoded(exact, prompt_BT, tokens_BT)[0]
    with without_loops():
        theirs = decoded(lm, prompt_BT, tokens_BT)[0].double()
    assert (theirs - truth).norm() > 0
    assert (ours - truth).norm() < 1.2 * (theirs - truth).norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 1), (3, 7), (4, 64), (129, 33), (1024, 256)])
@pytest.mark.parametrize("rows", [1, 2, 4, 7])
@pytest.mark.parametrize("biased", [False, True])
def test_matmul_is_the_product(
    rows: int, outputs: int, inputs: int, biased: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight, bias = (
        torch.randn(*shape).to(dtype) for shape in ((rows, 1, inputs), (outputs, inputs), (outputs,))
    )
    monkeypatch.setattr(torch.nn.functional, "linear", None)
    with torch.no_grad():
        y = linear(x, weight, bias if biased else None)
    exact = x.double() @ weight.double().t() + (bias.double() if biased else 0)
    assert y.dtype == dtype
    assert y.shape == (rows, 1, outputs)
    rounding = 2**-8 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(y.double(), exact, rtol=rounding, atol=1e-5)


def test_bfloat16_is_rounded_as_pytorch_rounds() -> None:
    """Every pair of neighbours: ties, overflow to infinity, subnormals, both zeros, NaN."""
    halves = torch.arange(2**16, dtype=torch.int32) << 16
    bits = torch.cat([halves, halves + 1, halves + 0x7FFF, halves + 0x8000, halves + 0x8001, halves + 0xFFFF])
    numbers = bits.view(torch.float32)
    rounded = torch.empty_like(numbers, dtype=torch.bfloat16)
    cpu_loops.matmul([torch.ones(1), numbers, numbers, rounded], [1, len(numbers), 1, False], 0.0)
    expected = numbers.to(torch.bfloat16)
    assert torch.equal(rounded.isnan(), expected.isnan())
    kept = ~expected.isnan()
    assert torch.equal(
        rounded[kept].view(torch.int16) | (-32768 * (expected[kept] == 0)).short(),
        expected[kept].view(torch.int16) | (-32768 * (expected[kept] == 0)).short(),
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "name", ["in_proj.weight", "conv1d.weight", "A_log", "dt_bias", "D", "norm.weight", "out_proj.weight"]
)
def test_what_is_not_finite_stays_so(name: str, dtype: torch.dtype, bad: float) -> None:
    lm = randomized(MINIATURES["pure-mamba"])
    parameter = lm.backbone.layers[1].mixer.get_parameter(name)
    with torch.no_grad():
        parameter.view(-1)[:] = bad
    lm.to(dtype)
    ids = torch.randint(96, (1, 3))
    hidden, _ = decoded(lm, ids, ids)
    with without_loops():
        expected, _ = decoded(lm, ids, ids)
    assert torch.equal(hidden.isfinite().all(-1), expected.isfinite().all(-1))


def test_with_gradients_pytorch_decodes() -> None:
    lm = randomized(MINIATURES["pure-mamba"])
    prompt_BT, token_B1 = torch.tensor([[1, 2]]), torch.tensor([[3]])
    state = lm.new_state()
    lm(prompt_BT, state=state)
    hidden_B1D = lm.hidden_states(token_B1, state=state)
    assert hidden_B1D.requires_grad
    torch.testing.assert_close(hidden_B1D.detach(), decoded(lm, prompt_BT, token_B1)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "numbers", "served"),
    [
        (torch.ones(4), 2**20, True),
        (torch.ones(4).bfloat16(), 2**20, True),
        (torch.ones(4), 2**20 + 1, False),
        (torch.ones(4).double(), 4, False),
        (torch.ones(4).half(), 4, False),
        (torch.ones(4, device="meta"), 4, False),
    ],
)  # fmt: skip
def test_which_work_is_served(x: Tensor, numbers: int, served: bool) -> None:
    with torch.no_grad():
        assert cpu_decoding.serves(x, numbers) == served
    assert not cpu_decoding.serves(x, numbers)


@pytest.mark.parametrize(
    ("x", "weight", "served"),
    [
        (torch.ones(1, 1, 4), torch.ones(5, 4), True),
        (torch.ones(9, 1, 4), torch.ones(5, 4), True),
        (torch.ones(2**7, 1, 4), torch.ones(2**13, 4), True),
        (torch.ones(2**7 + 1, 1, 4), torch.ones(2**13, 4), False),
        (torch.ones(1, 1, 4).bfloat16(), torch.ones(5, 4), False),
        (torch.ones(1, 1, 8)[..., ::2], torch.ones(5, 4), False),
    ],
)  # fmt: skip
def test_a_product_takes_so_many_rows_in_one_dtype(x: Tensor, weight: Tensor, served: bool) -> None:
    with torch.no_grad():
        assert cpu_decoding.serves_rows(x, weight, weight.numel()) == served


@pytest.mark.parametrize(
    ("block", "letter"), [("mamba_block", "M"), ("mlp_block", "-"), ("attention_block", "*")]
)
def test_whole_blocks_run_in_one_call(block: str, letter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For one token of each row, and not for prompts."""
    calls: list[str] = []
    original = getattr(cpu_decoding, block)
    monkeypatch.setattr(cpu_decoding, block, lambda *a, **k: calls.append(block) or original(*a, **k))
    lm = randomized(miniature("M-*-M-"))
    for rows in (1, 5):
        decoded(lm, torch.ones(rows, 3, dtype=torch.long), torch.ones(rows, 1, dtype=torch.long))
    assert len(calls) == 2 * lm.config.pattern.count(letter)


@Loop
def exponentials(x_at: Any, out_at: Any, count: int, _: float) -> None:
    x, out = carray(x_at, count), carray(out_at, count)
    for i in range(count):
        out[i] = cpu_loops._exp(x[i])


def test_exponentials_are_exact_to_the_last_places() -> None:
    special = torch.tensor([0.0, -0.0, 1e-30, -1e-30, math.inf, -math.inf, math.nan])
    numbers = torch.cat([torch.linspace(-110, 95, 200_001), special])
    ours = torch.empty_like(numbers)
    exponentials([numbers, ours], [len(numbers)], 0.0)
    exact = numbers.double().exp()
    normal = (numbers > -87.6) & (numbers < 88.3)
    assert ((ours.double() - exact)[normal] / exact[normal]).abs().max() < 2e-7
    far = numbers.abs() > 90
    torch.testing.assert_close(ours[far], exact[far].float(), rtol=0, atol=1e-38)
    assert ours[-1].isnan()


def test_strided_inputs_are_read_right() -> None:
    wide = torch.randn(6, 32)
    weight = torch.randn(5, 6)
    with torch.no_grad():
        torch.testing.assert_close(linear(wide[:, 3], weight), wide[:, 3] @ weight.t())
        norm = rms_norm(wide[:, ::2], torch.ones(16), 1e-5)
        torch.testing.assert_close(norm, rms_norm(wide[:, ::2].clone(), torch.ones(16), 1e-5))


def test_doctor_names_the_path() -> None:
    paths = {
        dtype: {row.operation: row.path for row in describe("cpu", getattr(torch, dtype))}["decoding"]
        for dtype in ("bfloat16", "float64")
    }
    assert paths == {"bfloat16": "Numba loops", "float64": "PyTorch's operations"}


STEP = """
import torch
from model.kernels.matmul import linear
with torch.no_grad():
    print(linear(torch.ones(3), torch.ones(5, 3)).tolist())
"""


def step_with_cache(folder: Path | str) -> str:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_machine_code_is_kept_and_a_damaged_copy_does_no_harm(tmp_path: Path) -> None:
    product = "[3.0, 3.0, 3.0, 3.0, 3.0]\n"
    assert step_with_cache(tmp_path) == product
    kept = [path for path in tmp_path.rglob("*") if path.suffix in (".nbi", ".nbc")]
    assert len(kept) == 2
    for path in kept:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert step_with_cache(tmp_path) == product
        path.write_bytes(content)


def test_without_a_place_for_machine_code_it_is_compiled_anew() -> None:
    assert step_with_cache("/dev/null/nowhere") == "[3.0, 3.0, 3.0, 3.0, 3.0]\n"
