"""Which linear layers multiply in FP8, and why the others do not. No torch.

The report keeps the first two and the last two blocks, embeddings, head, norms, attention products, convolution and scan in
higher precision (section 2.1).
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from model.config import ATTENTION, MAMBA, HybridConfig
from model.errors import UsageError

OUTER_BLOCKS = 2
"""Blocks at either end that stay in higher precision."""

MULTIPLE = 16
"""Of both dimensions of a weight: what the 8-bit products of a GPU take."""

ELSEWHERE = "embeddings, head, norms, attention products, convolution and scan are never in FP8"


class LayerPrecision(NamedTuple):
    """A linear layer by the name of its module; [outputs, inputs] of its weight; why it is not in FP8, empty if it is."""

    name: str
    outputs: int
    inputs: int
    reason: str

    @property
    def fp8(self) -> bool:
        return not self.reason

    @property
    def block(self) -> int:
        """The number of its block."""
        return int(self.name.split(".")[2])


def layer_table(config: HybridConfig, *, tensor_ranks: int = 1) -> list[LayerPrecision]:
    """Every linear layer of the blocks, in the order of the forward pass; of one of so many tensor ranks."""
    return [
        LayerPrecision(
            f"backbone.layers.{number}.mixer.{name}",
            outputs,
            inputs,
            _reason(number, len(config.pattern), outputs, inputs, biased=biased),
        )
        for number, letter in enumerate(config.pattern)
        for name, outputs, inputs, biased in _projections(config, letter, tensor_ranks)
    ]


def fp8_layers(config: HybridConfig, *, tensor_ranks: int = 1) -> list[LayerPrecision]:
    """Those that multiply in FP8. UsageError if there are none, and the precision would do nothing."""
    table = layer_table(config, tensor_ranks=tensor_ranks)
    layers = [layer for layer in table if layer.fp8]
    if not layers:
        reasons = ", ".join(sorted({layer.reason for layer in table}))
        raise UsageError(
            f"no layer of this model can multiply in FP8: {reasons}",
            where="precision",
            remedy="pass --precision bfloat16",
        )
    return layers


def fp8_flops_share(config: HybridConfig) -> float:
    """Of the multiplications of all linear layers of the blocks, those in FP8."""
    sizes = [(layer.outputs * layer.inputs, layer.fp8) for layer in layer_table(config)]
    return sum(size for size, fp8 in sizes if fp8) / sum(size for size, _ in sizes)


def describe(config: HybridConfig, *, tensor_ranks: int = 1) -> dict[str, str]:
    """The table in words: "in_proj, FP8": "[656, 160] in blocks 2, 4", and why what is not in FP8 is not."""
    places: dict[tuple[bool, str], dict[str, list[int]]] = {}
    for layer in layer_table(config, tensor_ranks=tensor_ranks):
        name = layer.name.rpartition(".")[2]
        shape = f"[{layer.outputs}, {layer.inputs}] in {{}}" + (layer.reason and f": {layer.reason}")
        places.setdefault((not layer.fp8, name), {}).setdefault(shape, []).append(layer.block)
    return {
        f"{name}, {'bfloat16' if wide else 'FP8'}": "; ".join(
            shape.format(_listed(blocks)) for shape, blocks in found.items()
        )
        for (wide, name), found in sorted(places.items(), key=lambda item: item[0][0])
    } | {"elsewhere": ELSEWHERE}


def _projections(config: HybridConfig, letter: str, ranks: int) -> Iterator[tuple[str, int, int, bool]]:
    """Name, outputs, inputs and whether there is a bias."""
    hidden = config.hidden_size
    if letter == MAMBA:
        yield "in_proj", config.in_proj_width // ranks, hidden, config.use_bias
        yield "out_proj", hidden, config.mamba_width // ranks, config.use_bias
    elif letter == ATTENTION:
        queries, keys = (
            heads * config.head_dim // ranks
            for heads in (config.num_attention_heads, config.num_key_value_heads)
        )
        yield "q_proj", queries, hidden, False
        yield "k_proj", keys, hidden, False
        yield "v_proj", keys, hidden, False
        yield "o_proj", hidden, queries, False
    else:
        yield "up_proj", config.intermediate_size // ranks, hidden, config.mlp_bias
        yield "down_proj", hidden, config.intermediate_size // ranks, config.mlp_bias


def _reason(number: int, blocks: int, outputs: int, inputs: int, *, biased: bool) -> str:
    if number < OUTER_BLOCKS or number >= blocks - OUTER_BLOCKS:
        return f"one of the first {OUTER_BLOCKS} and last {OUTER_BLOCKS} blocks"
    if biased:
        return "it has a bias"
    odd = [str(width) for width in (outputs, inputs) if width % MULTIPLE]
    return f"{' and '.join(odd)} is no multiple of {MULTIPLE}" if odd else ""


def _listed(numbers: Iterable[int]) -> str:
    """2, 3, 4, 7 as "blocks 2-4, 7"."""
    runs = [
        [number for _, number in run]
        for _, run in groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])
    ]
    listed = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"block {listed}" if listed.isdecimal() else f"blocks {listed}"
