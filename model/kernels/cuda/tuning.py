"""The variants that mamba-ssm's kernels were tuned to, kept on disk from run to run.

Triton keeps some by itself, but none of a kernel that adds up in place (one with a `pre_hook`), and mamba-ssm has several:
each process would time all variants of them again. Each GPU and version has its file; a damaged one is as good as none.
"""

import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
import triton
from triton.runtime.autotuner import Autotuner

_MODULES = ("ssd_bmm", "ssd_chunk_scan", "ssd_chunk_state", "ssd_combined", "ssd_state_passing")


def recall() -> None:
    """Take what earlier runs on such a GPU found."""
    try:
        kept = json.loads(_file().read_text())
        for name, autotuner in _autotuners():
            variants = {_say(config): config for config in autotuner.configs}
            for key, variant in kept.get(name, []):
                if variant in variants:
                    autotuner.cache.setdefault(tuple(key), variants[variant])
    except (OSError, ValueError, TypeError, AttributeError):
        return


def keep() -> None:
    """Keep what this process found. A disk that refuses costs the next run some seconds, and this one nothing."""
    found = {
        name: [[list(key), _say(config)] for key, config in autotuner.cache.items()]
        for name, autotuner in _autotuners()
    }
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
            if isinstance(value, Autotuner) and len(value.configs) > 1:
                yield f"{module}.{name}", value


def _say(config: Any) -> str:
    return f"{sorted(config.kwargs.items())}, warps {config.num_warps}, stages {config.num_stages}"


def _file() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    gpu = torch.cuda.get_device_name().replace(" ", "-")
    return cache / "nano2" / f"tuned-{gpu}-triton-{triton.__version__}-torch-{torch.__version__}.json"
