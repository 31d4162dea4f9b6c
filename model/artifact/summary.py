"""What an artifact is, told from its files: kind, content, size, and what its kind has to say.

Only headers and small JSON files are read, so a summary of a large checkpoint takes no longer than of a
small one.
"""

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from model.artifact.hashing import content_files
from model.artifact.provenance import Metric, Provenance, artifact_kind, current_hash, read_provenance
from model.artifact.weights import CheckpointFiles
from model.errors import ArtifactError

_LAYER = re.compile(r"^(.*\.layers\.\d+)\.")
_KIND_BY_TENSOR = (
    ("mixer.A_log", "mamba"),
    ("mixer.q_proj.weight", "attention"),
    ("mixer.up_proj.weight", "mlp"),
)


class Summary(BaseModel):
    """What `nano2 inspect` shows. `details` are the kind's own: a model's shape, a dataset's sources, ..."""

    path: str
    kind: str
    content_hash: str
    size_bytes: int
    file_count: int
    details: dict[str, Any]
    parameters: dict[str, int] = {}
    provenance: Provenance | None = None

    @property
    def metrics(self) -> dict[str, Metric]:
        return self.provenance.metrics if self.provenance else {}


def summarize(directory: Path) -> Summary:
    """Describe an artifact, or a foreign checkpoint or tokenizer. ArtifactError if it is none or damaged."""
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise ArtifactError(what, where=str(directory), remedy="pass an artifact's directory")
    provenance = read_provenance(directory)
    kind = artifact_kind(directory)
    if kind is None:
        raise ArtifactError(
            "is no artifact: it holds no nano2.json, config.json, dataset.json or tokenizer.json",
            where=str(directory),
            remedy="pass the output directory of a stage, or a NemotronH checkpoint",
        )
    names = content_files(directory)
    summary = Summary(
        path=str(directory),
        kind=kind,
        content_hash=current_hash(directory),
        size_bytes=sum((directory / name).stat().st_size for name in names),
        file_count=len(names),
        details={},
        provenance=provenance,
    )
    if kind in ("model", "reward"):
        return _with_model(directory, summary)
    details = {"tokenizer": _tokenizer_details, "dataset": _dataset_details}.get(kind)
    return summary.model_copy(update={"details": details(directory)}) if details else summary


def parameters_by_kind(checkpoint: CheckpointFiles) -> dict[str, int]:
    """Parameters of the embeddings, the blocks by kind (pre-norms included), the final norm and the head."""
    keys = checkpoint.keys()
    kind_of_layer = {
        key.removesuffix(f".{suffix}"): kind
        for key in keys
        for suffix, kind in _KIND_BY_TENSOR
        if key.endswith(f".{suffix}")
    }
    counts: dict[str, int] = {}
    for key in keys:
        layer = _LAYER.match(key)
        if layer:
            kind = kind_of_layer.get(layer[1], "other")
        elif "embed" in key:
            kind = "embedding"
        elif key.startswith("lm_head."):
            kind = "head"
        else:
            kind = "final_norm" if "norm" in key else "other"
        counts[kind] = counts.get(kind, 0) + checkpoint.info(key).count
    order = ("embedding", "mamba", "attention", "mlp", "other", "final_norm", "head")
    return {kind: counts[kind] for kind in order if kind in counts}


def _with_model(directory: Path, summary: Summary) -> Summary:
    from model.config import HybridConfig

    checkpoint = CheckpointFiles(directory, verify_hashes=False)
    config = HybridConfig.from_hf(_read_json(directory / "config.json"), where=str(directory / "config.json"))
    keys = checkpoint.keys()
    dtypes: dict[str, int] = {}
    for key in keys:
        info = checkpoint.info(key)
        dtypes[info.dtype] = dtypes.get(info.dtype, 0) + info.count
    details = {
        "dtype": ", ".join(sorted(dtypes, key=lambda dtype: -dtypes[dtype])),
        "weight_files": len(checkpoint.files),
        "total_parameters": checkpoint.total_parameters,
        "pattern": config.pattern,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "mamba": f"{config.mamba_num_heads} heads x {config.mamba_head_dim}, state {config.ssm_state_size}, "
        f"{config.n_groups} groups, conv {config.conv_kernel}",
        "attention": f"{config.num_attention_heads} heads x {config.head_dim}, "
        f"{config.num_key_value_heads} KV heads",
        "mlp": f"width {config.intermediate_size}, squared ReLU",
        "max_position_embeddings": config.max_position_embeddings,
        "tokenizer": (directory / "tokenizer.json").is_file(),
    }
    return summary.model_copy(update={"details": details, "parameters": parameters_by_kind(checkpoint)})


def _dataset_details(directory: Path) -> dict[str, Any]:
    """The content of dataset.json, a source and a phase an entry; nothing for a dataset that is not packed (jsonl)."""
    path = directory / "dataset.json"
    if not path.is_file():
        return {}
    content = _read_json(path)
    sources, phases = content.pop("sources", {}), content.pop("phases", [])
    if not isinstance(sources, dict) or not isinstance(phases, list):
        raise _damaged(path, "describes no sources and phases of a dataset")
    return (
        {name: value for name, value in content.items() if name != "schema_version"}
        | {f"source {name}": figures for name, figures in sources.items()}
        | {f"phase {number}": weights for number, weights in enumerate(phases, start=1)}
    )


def _tokenizer_details(directory: Path) -> dict[str, Any]:
    path = directory / "tokenizer.json"
    content = _read_json(path)
    model = content.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(vocabulary, dict | list):
        raise _damaged(path, "describes no vocabulary")
    added = content.get("added_tokens") or []
    known = vocabulary if isinstance(vocabulary, dict) else {piece[0] for piece in vocabulary}
    return {
        "model": model.get("type", "unknown"),
        "vocab_size": len({*known, *(token["content"] for token in added)}),
        "merges": len(model.get("merges") or ()),
        "special_tokens": sum(token["special"] for token in added),
        "chat_template": (directory / "chat_template.jinja").is_file(),
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise _damaged(path, "is not a JSON object")
    return content


def _damaged(path: Path, what: str) -> ArtifactError:
    return ArtifactError(what, where=str(path), remedy="copy the artifact again")
