"""The shared model core: one hybrid Mamba-2/attention network for training, rollouts, evaluation and serving.

`from model import HybridConfig, HybridLM, load` is the public face. The names are resolved on first use, so that
reading a config or raising an error costs no torch import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.config import HybridConfig
    from model.hybrid import HybridLM, HybridOutput
    from model.loading import load

__all__ = ["HybridConfig", "HybridLM", "HybridOutput", "load"]

_HOMES = {
    "HybridConfig": "model.config",
    "HybridLM": "model.hybrid",
    "HybridOutput": "model.hybrid",
    "load": "model.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'model' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
