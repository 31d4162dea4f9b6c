"""Forward hooks that keep what passes through the parts of a block, under names that both programs share.

This core names its modules as a NemotronH checkpoint names tensors, and so does transformers; one table of parts serves
both.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from model.config import ATTENTION, MAMBA, MLP

KIND_NAMES = {MAMBA: "mamba", ATTENTION: "attention", MLP: "mlp"}


@dataclass(frozen=True)
class Part:
    """A point inside a block: what enters (`side` "in") or leaves ("out") the submodule `module`."""

    name: str
    module: str
    side: str


PARTS = {
    MAMBA: (
        Part("pre-norm", "norm", "out"),
        Part("in_proj", "mixer.in_proj", "out"),
        Part("convolution or scan", "mixer.norm", "in"),
        Part("gated norm", "mixer.norm", "out"),
        Part("out_proj", "mixer.out_proj", "out"),
    ),
    ATTENTION: (
        Part("pre-norm", "norm", "out"),
        Part("q_proj", "mixer.q_proj", "out"),
        Part("k_proj", "mixer.k_proj", "out"),
        Part("v_proj", "mixer.v_proj", "out"),
        Part("attention", "mixer.o_proj", "in"),
        Part("o_proj", "mixer.o_proj", "out"),
    ),
    MLP: (
        Part("pre-norm", "norm", "out"),
        Part("up_proj", "mixer.up_proj", "out"),
        Part("squared ReLU", "mixer.down_proj", "in"),
        Part("down_proj", "mixer.down_proj", "out"),
    ),
}
"""The parts of each kind of block, in the order in which a token passes them."""


def mixer_output(letter: str) -> str:
    """Name of the part whose output is what the block adds to the residual stream."""
    return PARTS[letter][-1].name


@contextmanager
def recorded_parts(block: nn.Module, letter: str) -> Iterator[dict[str, Tensor]]:
    """While open, a forward pass of `block` fills the yielded dict, from a part's name to its tensor."""
    seen: dict[str, Tensor] = {}

    def recorder(part: Part) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            seen[part.name] = (inputs[0] if part.side == "in" else output).detach()

        return hook

    with ExitStack() as hooks:
        for part in PARTS[letter]:
            hooks.enter_context(block.get_submodule(part.module).register_forward_hook(recorder(part)))
        yield seen


def named_layers(backbone: Any, head: nn.Module) -> dict[str, nn.Module]:
    """`embeddings`, `layers.0` ..., `norm_f`, `lm_head`: either program's modules in the order they run."""
    blocks = {f"layers.{index}": block for index, block in enumerate(backbone.layers)}
    return {"embeddings": backbone.embeddings, **blocks, "norm_f": backbone.norm_f, "lm_head": head}


@contextmanager
def recorded_outputs(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """While open, a forward pass fills the yielded dict with the output of each module."""
    outputs: dict[str, Tensor] = {}

    def recorder(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            outputs[name] = output.detach()

        return hook

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_hook(recorder(name)))
        yield outputs
