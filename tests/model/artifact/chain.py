"""A small chain of real artifacts: raw text -> tokenizer -> model -> tuned model, written as the harness does."""

from pathlib import Path
from typing import Any

import torch

from model.artifact.environment import describe_device, package_versions
from model.artifact.hashing import content_hash
from model.artifact.provenance import Kind, Provenance, describe_input, write_provenance
from model.artifact.staging import staged_directory, write_json
from model.artifact.weights import save_weights

MODEL_CONFIG = {
    "model_type": "nemotron_h",
    "vocab_size": 32,
    "hidden_size": 16,
    "hybrid_override_pattern": "M*-M",
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 24,
    "mamba_num_heads": 4,
    "mamba_head_dim": 8,
    "ssm_state_size": 8,
    "n_groups": 1,
    "conv_kernel": 4,
    "chunk_size": 16,
    "time_step_min": 1e-30,
}


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights of MODEL_CONFIG, in the names and shapes on disk."""
    shapes: dict[str, list[int]] = {"backbone.embeddings.weight": [32, 16], "lm_head.weight": [32, 16]}
    shapes["backbone.norm_f.weight"] = [16]
    for layer, letter in enumerate("M*-M"):
        prefix = f"backbone.layers.{layer}."
        shapes[prefix + "norm.weight"] = [16]
        mixer = {
            "M": {
                "in_proj.weight": [84, 16], "conv1d.weight": [48, 1, 4], "conv1d.bias": [48], "A_log": [4], "D": [4],
                "dt_bias": [4], "norm.weight": [32], "out_proj.weight": [16, 32],
            },
            "*": {
                "q_proj.weight": [16, 16], "k_proj.weight": [8, 16], "v_proj.weight": [8, 16],
                "o_proj.weight": [16, 16],
            },
            "-": {"up_proj.weight": [24, 16], "down_proj.weight": [16, 24]},
        }[letter]  # fmt: skip
        shapes |= {f"{prefix}mixer.{name}": shape for name, shape in mixer.items()}
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def make(
    out: Path,
    kind: Kind,
    stage: str,
    inputs: dict[str, Path],
    *,
    seed: int = 0,
    weights: dict[str, float] | None = None,
    **metrics: Any,
) -> Path:
    """An artifact with provenance; a model has weights and a config.json, anything else one file."""
    hashes = {field: content_hash(path) for field, path in inputs.items()}
    weights = weights or {}
    parents = [
        describe_input(path, out=out, content_hash=hashes[field], weight=weights.get(field))
        for field, path in inputs.items()
    ]
    config: dict[str, Any] = {"seed": seed, "note": "1e-3"}
    for field, path in inputs.items():
        config[field] = {"path": str(path), "content_hash": hashes[field]}
        if field in weights:
            config[field] = [config[field] | {"weight": weights[field]}]
    with staged_directory(out, overwrite=True) as staging:
        if kind == "model":
            save_weights(tensors(seed), staging)
            write_json(staging / "config.json", MODEL_CONFIG)
        else:
            write_json(staging / f"{kind}.json", {"seed": seed})
        provenance = Provenance(
            kind=kind,
            stage=stage,
            parents=[parent for parent in parents if parent.kind != "data"],
            data=[parent for parent in parents if parent.kind == "data"],
            config=config,
            command=["nano2", *stage.split(), "-o", str(out)],
            versions=package_versions(),
            device=describe_device(),
            seed=seed,
            metrics=metrics,
            seconds=1.5,
        )
        write_provenance(staging, provenance)
    return out


def make_chain(root: Path) -> Path:
    """root/data/text.txt, root/artifacts/{tokenizer,base,tuned}; the last one's path."""
    text = root / "data" / "text.txt"
    text.parent.mkdir(parents=True)
    text.write_text("some text\n" * 100)
    folder = root / "artifacts"
    tokenizer = make(
        folder / "tokenizer", "tokenizer", "data tokenizer", {"data": text}, weights={"data": 2.0}
    )
    base = make(
        folder / "base", "model", "pretrain", {"tokenizer": tokenizer, "data": text}, seed=1, loss=2.5
    )
    return make(folder / "tuned", "model", "sft", {"model": base, "tokenizer": tokenizer}, seed=2, loss=1.25)
