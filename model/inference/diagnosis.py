"""Where a NaN or an infinity first appears in a forward pass."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from model.config import ATTENTION, MAMBA
from model.errors import NotFiniteError
from model.hybrid import HybridLM

_MIXERS = {MAMBA: "Mamba-2", ATTENTION: "attention"}


def not_finite_error(lm: HybridLM, token_ids: Sequence[int]) -> NotFiniteError:
    """The error for logits that are not finite after `token_ids`: names the first layer whose output is not."""
    layer = _first_not_finite(lm, token_ids) or "the cached state"
    return NotFiniteError(
        f"the logits are not finite; the first NaN or infinity comes out of {layer}",
        where=f"after {len(token_ids)} tokens",
        remedy="load the model in float32 (--dtype float32); if that does not help, its weights are unusable",
    )


@torch.inference_mode()
def _first_not_finite(lm: HybridLM, token_ids: Sequence[int]) -> str | None:
    named: list[tuple[str, nn.Module]] = [("the embeddings", lm.backbone.embeddings)]
    for index, letter in enumerate(lm.config.pattern):
        named.append((f"layer {index} ({_MIXERS.get(letter, 'MLP')})", lm.backbone.layers[index]))
    named += [("the final norm", lm.backbone.norm_f), ("lm_head", lm.lm_head)]
    return first_not_finite(named, lambda: lm(torch.tensor([list(token_ids)], device=lm.device)))


def first_not_finite(named: Iterable[tuple[str, nn.Module]], forward: Callable[[], object]) -> str | None:
    """Run `forward` and name the first of the modules whose output has a NaN or an infinity in it."""
    bad: list[str] = []

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def look(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            if not bad and not bool(output.isfinite().all()):
                bad.append(name)

        return module.register_forward_hook(look)

    handles = [watch(name, module) for name, module in named]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    return bad[0] if bad else None
