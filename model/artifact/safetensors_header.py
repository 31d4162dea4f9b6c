"""The header of a safetensors file, read and checked without touching the tensors, or made before there are any.

Layout: 8 bytes with the header's length N (little endian), N bytes of JSON, then the tensors' bytes
without gaps. The JSON maps a tensor's name to {"dtype", "shape", "data_offsets": [begin, end]}, offsets
counted from the end of the header; `__metadata__` maps strings to strings. See the format's page in the
safetensors repository.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from model.errors import ArtifactError

_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library

DTYPES: dict[str, tuple[str, int]] = {  # the format's name: torch's name, bytes an element
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U64": ("uint64", 8),
    "U32": ("uint32", 4),
    "U16": ("uint16", 2),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}

_WIDTHS = dict(DTYPES.values())
_NAMES = {torch_name: name for name, (torch_name, _) in DTYPES.items()}

_LAYOUT = (
    *("uint64", "int64", "float64", "float32", "uint32", "int32", "bfloat16", "float16", "uint16", "int16"),
    *("float8_e4m3fn", "float8_e5m2", "int8", "uint8", "bool"),
)
"""Dtypes in the order in which the library lays tensors out, the widest first, so that each is aligned."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file: torch's name of its dtype, its shape, its size in bytes, the byte at which it begins."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    start: int = field(default=0, compare=False)

    @classmethod
    def of(cls, dtype: str, shape: tuple[int, ...]) -> "TensorInfo":
        """A tensor that is yet to be written."""
        return cls(dtype, shape, math.prod(shape) * _WIDTHS[dtype])

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file, by name.

    Raises ArtifactError, naming the file and where possible the tensor, if the file is cut short, its
    header is not a safetensors header, or the header does not describe the file's bytes exactly.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8:
                raise _damaged(path, f"is cut short ({size} bytes, not even the length of a header)")
            if length > _MAX_HEADER_BYTES or length > size - 8:
                raise _damaged(
                    path,
                    f"announces a header of {length} bytes, and only {size - 8} bytes follow",
                )
            text = file.read(length)
    except OSError as error:
        raise ArtifactError(f"cannot be read ({error.strerror})", where=str(path), remedy=_REMEDY) from error
    return _parse(path, text, size - 8 - length)


def make_header(tensors: Mapping[str, TensorInfo]) -> tuple[bytes, list[str]]:
    """What the safetensors library would write before these tensors, to the byte, and the order in which they follow."""
    order = sorted(tensors, key=lambda name: (_LAYOUT.index(tensors[name].dtype), name))
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        info = tensors[name]
        begin, end = end, end + info.nbytes
        entries[name] = {
            "dtype": _NAMES[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, order


def _parse(path: Path, text: bytes, data_bytes: int) -> dict[str, TensorInfo]:
    try:
        header = json.loads(text, object_pairs_hook=lambda pairs: _unique(path, pairs))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"has a header that is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise _damaged(path, "has a header that is not a JSON object")
    header.pop("__metadata__", None)
    spans = {name: _span(path, name, entry) for name, entry in header.items()}

    expected = 0
    for name, (info, begin, end) in sorted(spans.items(), key=lambda item: item[1][1:]):
        if end > data_bytes:
            raise _damaged(
                path,
                f"is cut short: tensor {name} ends at byte {end} of the data, which has {data_bytes}",
            )
        if begin != expected or end - begin != info.nbytes:
            raise _damaged(
                path, f"places tensor {name} at bytes {begin} to {end}, which its shape contradicts"
            )
        expected = end
    if expected != data_bytes:
        raise _damaged(path, f"holds {data_bytes - expected} bytes more than its header describes")
    data_start = 8 + len(text)
    return {name: replace(info, start=data_start + begin) for name, (info, begin, _) in spans.items()}


def _span(path: Path, name: str, entry: Any) -> tuple[TensorInfo, int, int]:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise _damaged(path, f"describes tensor {name} by {json.dumps(entry)[:80]}")
    if not all(type(extent) is int and extent >= 0 for extent in shape):
        raise _damaged(path, f"gives tensor {name} the shape {shape}")
    if dtype not in DTYPES:
        raise ArtifactError(
            f"tensor {name} has dtype {dtype}, which nano2 does not read",
            where=str(path),
            remedy="convert the checkpoint to bfloat16 or float32",
        )
    torch_name, width = DTYPES[dtype]
    return TensorInfo(torch_name, tuple(shape), math.prod(shape) * width), begin, end


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        raise _damaged(
            path, f"names tensor {next(n for n in names if names.count(n) > 1)} twice in its header"
        )
    return result


_REMEDY = "copy or download the file again"


def _damaged(path: Path, what: str) -> ArtifactError:
    return ArtifactError(what, where=str(path), remedy=_REMEDY)
