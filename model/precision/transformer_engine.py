"""FP8 products by NVIDIA's Transformer Engine: its quantizers and matrix products, none of its modules.

So parameters stay ours, and no checkpoint or artifact knows of it. Scales as its recipes Float8BlockScaling (E4M3) and
Float8CurrentScaling have them by default. Operands are kept by row and by column, since Hopper's 8-bit products want both
with the inner dimension last; the columns' tiles have scales of their own.
"""

import importlib
from functools import cache
from typing import Any

import torch
from torch import Tensor

from model.errors import PlanRefusedError
from model.precision.scaling import Scaling

OTHERWISE = "pass --precision bfloat16"


def missing(scaling: Scaling) -> PlanRefusedError | None:
    """What keeps this GPU and this installation from such products, as an error to raise; None if nothing does."""
    if problem := _why_not():
        remedy = f"pip install --no-build-isolation transformer-engine[pytorch], or {OTHERWISE}"
        return PlanRefusedError(problem, where="precision", remedy=remedy)
    from transformer_engine.pytorch import is_fp8_available, is_fp8_block_scaling_available

    available = is_fp8_block_scaling_available if scaling == "blocks" else is_fp8_available
    supported, reason = available(return_reason=True)
    if supported:
        return None
    return PlanRefusedError(f"this GPU lacks such products ({reason})", where="precision", remedy=OTHERWISE)


class TransformerEngine:
    """An `Arithmetic` whose operands are Transformer Engine's storages."""

    def __init__(self, scaling: Scaling) -> None:
        if error := missing(scaling):
            raise error
        from transformer_engine.common.recipe import Float8BlockScaling, Float8CurrentScaling, Format
        from transformer_engine.pytorch import DType, Float8BlockQuantizer, Float8CurrentScalingQuantizer
        from transformer_engine.pytorch.cpp_extensions import general_gemm

        self._multiply = general_gemm
        if scaling == "blocks":
            blocks = Float8BlockScaling(fp8_format=Format.E4M3)
            self._recipe: Any = blocks
            self._input, self._weight, self._gradient = (
                Float8BlockQuantizer(
                    DType.kFloat8E4M3,
                    rowwise=True,
                    columnwise=True,
                    amax_epsilon=parameters.amax_epsilon,
                    force_pow_2_scales=parameters.power_2_scale,
                    block_scaling_dim=dimensions,
                )
                for parameters, dimensions in (
                    (blocks.fp8_quant_fwd_inp, blocks.x_block_scaling_dim),
                    (blocks.fp8_quant_fwd_weight, blocks.w_block_scaling_dim),
                    (blocks.fp8_quant_bwd_grad, blocks.grad_block_scaling_dim),
                )
            )
        else:
            self._recipe = Float8CurrentScaling(fp8_format=Format.E4M3)
            self._input = self._weight = self._gradient = Float8CurrentScalingQuantizer(
                DType.kFloat8E4M3,
                device=torch.device("cuda"),
                force_pow_2_scales=self._recipe.use_power_2_scales,
            )
        for quantizer in (self._input, self._weight, self._gradient):
            quantizer.internal = True  # storages without autograd's part

    def quantize_input(self, x_nD: Tensor) -> Any:
        return self._input(x_nD.contiguous())

    def quantize_weight(self, weight_FD: Tensor) -> Any:
        return self._weight(weight_FD.detach().contiguous())

    def quantize_gradient(self, grad_nF: Tensor) -> Any:
        return self._gradient(grad_nF.contiguous())

    # The library's products are those of columns: its first operand is our second one.

    def multiply(self, x: Any, weight: Any, dtype: torch.dtype) -> Tensor:
        split = self._recipe.fp8_gemm_fprop.use_split_accumulator
        return self._multiply(weight, x, out_dtype=dtype, use_split_accumulator=split)[0]

    def input_gradient(self, grad: Any, weight: Any, dtype: torch.dtype) -> Tensor:
        split = self._recipe.fp8_gemm_dgrad.use_split_accumulator
        return self._multiply(
            weight, grad, out_dtype=dtype, layout="NN", grad=True, use_split_accumulator=split
        )[0]

    def weight_gradient(self, grad: Any, x: Any, dtype: torch.dtype, total: Tensor | None) -> Tensor:
        split = self._recipe.fp8_gemm_wgrad.use_split_accumulator
        return self._multiply(
            x,
            grad,
            out_dtype=dtype,
            layout="NT",
            out=total,
            accumulate=total is not None,
            grad=True,
            use_split_accumulator=split,
        )[0]

    def save(self, x: Any) -> tuple[Any, list[Tensor]]:
        x.update_usage(rowwise_usage=False, columnwise_usage=True)
        parts = x.get_metadata()
        tensors = {name: part for name, part in parts.items() if isinstance(part, Tensor)}
        rest = {name: part for name, part in parts.items() if name not in tensors}
        return (type(x), tuple(tensors), rest), list(tensors.values())

    def restore(self, shell: Any, tensors: list[Tensor]) -> Any:
        storage, names, rest = shell
        return storage(**dict(zip(names, tensors, strict=True)), **rest)


@cache
def _why_not() -> str:
    """Why Transformer Engine does not import; empty if it does."""
    try:
        importlib.import_module("transformer_engine.pytorch")
    except ImportError as error:
        return f"Transformer Engine does not import ({error})"
    except Exception as error:  # whatever a package meets that was built for another PyTorch or GPU
        return f"Transformer Engine fails on import ({type(error).__name__}: {error})"
    return ""
