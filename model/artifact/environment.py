"""What a run's results depend on beside inputs and settings: package versions, the device, the commit."""

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("nano2", "torch", "transformers", "tokenizers", "safetensors", "datasets", "numpy")
_GPU_PACKAGES = ("mamba-ssm", "causal-conv1d", "transformer-engine", "triton")


def package_versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that matter; nano2's git commit in a checkout."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES + _GPU_PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    if commit := git_commit():
        versions["nano2_commit"] = commit
    return versions


def describe_device(device: str = "cpu") -> dict[str, str | int]:
    """What `device` (as torch spells it) is: type and name; count and CUDA version, or CPU threads."""
    if device.startswith("cuda"):
        import torch

        return {
            "type": "cuda",
            "name": torch.cuda.get_device_name(device),
            "count": torch.cuda.device_count(),
            "cuda": str(torch.version.cuda),
        }
    described: dict[str, str | int] = {"type": device, "name": _cpu_name()}
    torch_in_use = sys.modules.get("torch")
    return described if torch_in_use is None else described | {"threads": torch_in_use.get_num_threads()}


def git_commit() -> str | None:
    """The commit of the checkout that nano2 runs from, with `+changes` if files differ from it, or None."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None
    return commit + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
