"""transformers' NemotronH on a checkpoint directory, in float32 on the CPU: the program that parity is measured against.

transformers raises dt to `time_step_min` in its prefill, never in its decode (nor does any other reader of the format),
so it is loaded with a `time_step_min` that raises nothing. What its own setting would do is measured apart.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.config import UNCLAMPED_TIME_STEP_MIN
from model.errors import ArtifactError, PlanRefusedError, first_line

OLDEST = "5.17"
"""The first release whose CPU scan is right."""


@dataclass
class TransformersPeer:
    """`model` is in evaluation mode and clamps nothing; `time_step_min` is what the checkpoint's config asks for."""

    model: Any
    version: str
    time_step_min: float

    @classmethod
    def load(cls, directory: Path) -> "TransformersPeer":
        """PlanRefusedError without a usable transformers; ArtifactError if it cannot read the directory whole."""
        transformers = _import_transformers()
        try:
            config = transformers.NemotronHConfig.from_pretrained(directory, local_files_only=True)
            time_step_min = float(config.time_step_min)
            config.time_step_min = UNCLAMPED_TIME_STEP_MIN
            model, info = transformers.NemotronHForCausalLM.from_pretrained(
                directory,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # it raises many kinds, from its own validation to safetensors' errors
            raise ArtifactError(
                f"transformers {transformers.__version__} cannot load it ({first_line(error)})",
                where=str(directory),
                remedy="nano2 reads this directory, so compare its config.json with docs/model.md",
            ) from error
        for problem, keys in info.items():
            if keys:
                raise ArtifactError(
                    f"transformers {transformers.__version__} reports {problem.replace('_', ' ')}: {_sample(keys)}",
                    where=str(directory),
                    remedy="name the tensors as a NemotronH checkpoint does; docs/model.md lists them",
                )
        return cls(model.eval(), transformers.__version__, time_step_min)

    @property
    def blocks(self) -> Any:
        return self.model.model.layers

    def logits(self, ids_1T: Tensor) -> Tensor:
        """[1, T, V] of a full forward pass."""
        logits: Tensor = self.model(ids_1T, use_cache=False).logits
        return logits

    def decoded_logits(self, ids_1T: Tensor, steps: int) -> Tensor | None:
        """[1, steps, V] of the last `steps` tokens, fed one at a time to the cache of those before.

        None where transformers has no cached decode: a model without attention blocks.
        """
        if not any(kind == "full_attention" for kind in self.model.config.layers_block_type):
            return None
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        start = ids_1T.shape[1] - steps
        self.model(ids_1T[:, :start], past_key_values=cache, use_cache=True)
        rows = [
            self.model(ids_1T[:, t : t + 1], past_key_values=cache, use_cache=True).logits
            for t in range(start, ids_1T.shape[1])
        ]
        return torch.cat(rows, dim=1)

    @contextmanager
    def own_clamp(self) -> Iterator[None]:
        """Within, dt is raised to the `time_step_min` of the checkpoint's config, as transformers does by itself."""
        mixers = [block.mixer for block in self.blocks if hasattr(block.mixer, "time_step_limit")]
        limits = [mixer.time_step_limit for mixer in mixers]
        for mixer in mixers:
            mixer.time_step_limit = (self.time_step_min, float("inf"))
        try:
            yield
        finally:
            for mixer, limit in zip(mixers, limits, strict=True):
                mixer.time_step_limit = limit


def _import_transformers() -> Any:
    remedy = f"pip install 'transformers>={OLDEST}'"
    try:
        import transformers
    except ImportError as error:
        raise PlanRefusedError("transformers is not installed", remedy=remedy) from error
    from packaging.version import Version

    if Version(transformers.__version__) < Version(OLDEST):
        raise PlanRefusedError(
            f"transformers {transformers.__version__} is too old to compare with", remedy=remedy
        )
    if importlib.util.find_spec("mamba_ssm") is not None:
        raise PlanRefusedError(
            "mamba-ssm is installed, and transformers would run its GPU kernels on the CPU",
            remedy="run nano2 verify in an environment without mamba-ssm",
        )
    transformers.logging.set_verbosity_error()  # it advises to install just what was refused here
    return transformers


def _sample(keys: Any) -> str:
    names = sorted(map(str, keys))
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest
