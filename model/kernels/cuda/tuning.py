"""Which variants of mamba-ssm's kernels run, so that no process has to time them all again.

On Hopper they are those of `variants.json`, found on an H200 at 8,192 tokens of heads of 64, 128 states; timing them takes
two minutes, nearly all of it to compile what is then not used. On other GPUs what a process finds is kept on disk: Triton
keeps some by itself, but none of a kernel that adds up in place (one with a `pre_hook`), and mamba-ssm has several. Each GPU
and version has its file; a damaged one is as good as none.
"""

import importlib
import json
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
import triton
from triton.runtime.autotuner import Autotuner

_MODULES = ("ssd_bmm", "ssd_chunk_scan", "ssd_chunk_state", "ssd_combined", "ssd_state_passing")
_HOPPER = (9, 0)


def recall() -> None:
    """Take the variants that are known for this GPU."""
    if torch.cuda.get_device_capability() == _HOPPER:
        known = json.loads(resources.files("model.kernels.cuda").joinpath("variants.json").read_text())
        for name, autotuner in _autotuners():
            # One variant alone is taken without timing it.
            variants = [config for config in autotuner.configs if _say(config) == known.get(name)]
            autotuner.configs = variants or autotuner.configs
        return
    try:
        kept = json.loads(_file().read_text())
        for name, autotuner in _autotuners():
            by_name = {_say(config): config for config in autotuner.configs}
            for key, variant in kept.get(name, []):
                if variant in by_name:
                    autotuner.cache.setdefault(tuple(key), by_name[variant])
    except (OSError, ValueError, TypeError, AttributeError):
        return


def keep() -> None:
    """Keep what this process found. A disk that refuses costs the next run some seconds, and this one nothing."""
    found = {
        name: [[list(key), _say(config)] for key, config in autotuner.cache.items()]
        for name, autotuner in _autotuners()
        if autotuner.cache
    }
    if not found:
        return
    path = _file()
    part = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(found))
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)


def _autotuners() -> Iterator[tuple[str, Autotuner]]:
    for module in _MODULES:
        for name, value in vars(importlib.import_module(f"mamba_ssm.ops.triton.{module}")).items():
            if isinstance(value, Autotuner):
                yield f"{module}.{name}", value


def _say(config: Any) -> str:
    return f"{sorted(config.kwargs.items())}, warps {config.num_warps}, stages {config.num_stages}"


def _file() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    gpu = torch.cuda.get_device_name().replace(" ", "-")
    return cache / "nano2" / f"tuned-{gpu}-triton-{triton.__version__}-torch-{torch.__version__}.json"
