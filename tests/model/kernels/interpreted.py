"""Runs the Triton kernels of `model.kernels.cuda` in Triton's interpreter, in a process of its own.

    python interpreted.py INPUTS.pt OUTPUTS.pt

with Triton and mamba-ssm on PYTHONPATH, TRITON_INTERPRET=1 and MAMBA_DETERMINISTIC=1. INPUTS is a list of (kernel,
arguments, upstream gradients); OUTPUTS one of results and gradients of the arguments that ask for one.
"""

import contextlib
import sys
from typing import Any

import torch


def run(kernel: str, arguments: list[Any], upstream: torch.Tensor | None) -> list[torch.Tensor]:
    if kernel == "scan":
        return scan(*arguments, upstream)
    from model.kernels.cuda import cross_entropy, norms, squared_relu

    if kernel == "cross_entropy":
        losses = cross_entropy.cross_entropy_(*arguments)
        return [losses, arguments[0]]
    if kernel == "squared_relu":
        (h,) = arguments
        out = squared_relu.squared_relu(h)
        assert upstream is not None
        squared_relu.squared_relu_backward_(upstream, h)
        return [out, h, upstream]
    if kernel == "residual":
        x, weight, eps, delta = arguments
        stream, normal = norms.FusedResidualNorm.apply(x, weight, eps, delta.dtype)
        out = norms.FusedAdd.apply(stream, normal * delta)
        return [out.detach(), *torch.autograd.grad(out, [x, weight, delta], upstream)]
    assert kernel == "norm"
    out = norms.FusedRMSNorm.apply(*arguments)
    leaves = [argument for argument in arguments if isinstance(argument, torch.Tensor)]
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream)]


def scan(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    dt_bias: torch.Tensor,
    seq_idx: torch.Tensor | None,
    upstream: torch.Tensor,
) -> list[torch.Tensor]:
    from tests.peers.mamba_ssm_oracle import CHUNK, import_peers

    import_peers()
    from model.kernels.cuda.chunk_scan import scan_backward, scan_forward

    y, kept = scan_forward(x, dt, A, B, C, D, dt_bias, CHUNK, seq_idx)
    dx, ddt, dB, dC = (torch.empty_like(t) for t in (x, dt, B, C))
    dA, dD, ddt_bias = scan_backward(
        upstream,
        x,
        dt,
        A,
        B,
        C,
        D,
        dt_bias,
        seq_idx,
        kept,
        dx_BTHP=dx,
        ddt_BTH=ddt,
        dB_BTGN=dB,
        dC_BTGN=dC,
    )
    return [y, dx, ddt, dA, dB, dC, dD, ddt_bias]


def main(inputs: str, outputs: str) -> None:
    torch.cuda.device = lambda *_: contextlib.nullcontext()  # launchers look a device up
    cases = torch.load(inputs)
    torch.save([run(*case) for case in cases], outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
