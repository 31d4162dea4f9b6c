"""Functions that Numba compiles, called with tensors.

Numba needs no compiler on the machine, and keeps the machine code on disk until the file that a function stands in changes;
what is changed here, or imported by that file, is noticed after `make clean`.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from numba import cfunc, types
from torch import Tensor

MACHINE_TYPES = {torch.float32: types.float32, torch.bfloat16: types.uint16}
"""What stands for a tensor's numbers in a compiled function; a bfloat16 is its bits."""

_POINTED_AT = {**MACHINE_TYPES, torch.int64: types.int64}


class Loop:
    """A function over the addresses of tensors, some sizes and one number, compiled for the dtypes that it meets.

    Called with contiguous tensors on the CPU; runs on one core, without Python's lock.
    """

    def __init__(self, body: Callable[..., None]) -> None:
        self._body = body
        self._compiled: dict[tuple[torch.dtype, ...], Callable[..., None]] = {}
        self._code: list[Any] = []  # what `_compiled` calls into; it must live as long

    def __call__(self, tensors: Sequence[Tensor], sizes: Sequence[int], number: float) -> None:
        dtypes, addresses = [], []
        for tensor in tensors:
            assert tensor.is_contiguous()
            dtypes.append(tensor.dtype)
            addresses.append(tensor.data_ptr())
        key = tuple(dtypes)
        call = self._compiled.get(key) or self._compile(key, len(sizes))
        call(*addresses, *sizes, number)

    def _compile(self, dtypes: tuple[torch.dtype, ...], sizes: int) -> Callable[..., None]:
        pointers = [types.CPointer(_POINTED_AT[dtype]) for dtype in dtypes]
        signature = types.void(*pointers, *[types.int64] * sizes, types.float32)
        # Sums may be split over vector lanes; NaN and infinity keep their meaning.
        options: dict[str, Any] = {"fastmath": {"contract", "reassoc", "nsz"}, "error_model": "numpy"}
        try:
            code = cfunc(signature, cache=True, **options)(self._body)
        except Exception:  # whatever Numba meets where it keeps code: a damaged file, a full disk, no home
            code = cfunc(signature, **options)(self._body)
        prototype = ctypes.CFUNCTYPE(
            None, *[ctypes.c_void_p] * len(pointers), *[ctypes.c_int64] * sizes, ctypes.c_float
        )
        address: Any = code.address
        self._code.append(code)
        self._compiled[dtypes] = prototype(address)
        return self._compiled[dtypes]
