"""The model card, README.md, written from an artifact's provenance."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from model.artifact.hashing import short_hash
from model.artifact.staging import artifact_name

if TYPE_CHECKING:
    from model.artifact.provenance import Parent, Provenance

_USE = {
    "model": """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```
 `config.json` sets `time_step_min` to 1e-30. Leave it: transformers clamps the Mamba step size from below
in prefill and training, but not in decode, and with a larger value the two disagree. In nano2: `from model
import load; lm = load("{name}")`, or `nano2 generate -m {name}`.
""",
    "tokenizer": """\
```python
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
```
""",
    "dataset": "Pass it to a training stage with `-d {name}`. The rows are Arrow files of `datasets`.\n",
    "reward": "Pass it to a stage that scores answers. The head's weights are in `reward/score_head.safetensors`.\n",
    "eval": "The figures below are the result; the files beside this card hold the details.\n",
    "bench": "The figures below are the result; the files beside this card hold the details.\n",
}


def model_card(directory: Path, provenance: "Provenance") -> str:
    """README.md of the artifact in `directory` (which may still be a staging directory)."""
    name = artifact_name(directory)
    made = f"{provenance.created:%Y-%m-%d %H:%M} UTC, in {provenance.seconds:.0f} s"
    sections = [
        _front_matter(provenance.kind),
        f"# {name}\n",
        f"Made by `nano2 {provenance.stage}` on {made}, on {_device(provenance)}.\n"
        f"Content `{provenance.content_hash}`.\n",
        "## Use\n",
        _use(directory, provenance.kind, name),
    ]
    if provenance.metrics:
        sections += ["## Metrics\n", _table(("metric", "value"), _metric_rows(provenance))]
    if provenance.inputs:
        sections += [
            "## Made from\n",
            _table(("input", "kind", "weight", "content"), _input_rows(provenance.inputs)),
        ]
    sections += [
        "## Settings\n",
        _fenced("json", json.dumps(provenance.config, indent=2, ensure_ascii=False)),
    ]
    if provenance.command:
        sections += ["Command line:\n", _fenced("sh", shlex.join(provenance.command))]
    sections += [
        "## Rebuild\n",
        f"`nano2 lineage {shlex.quote(name)}` draws what it came from. `nano2 replay {shlex.quote(name)}`\n"
        "prints the commands that rebuild it, and with `--run` runs them and compares content hashes.\n",
        "Versions: "
        + ", ".join(f"{package} {version}" for package, version in provenance.versions.items())
        + ".\n",
    ]
    return "\n".join(sections)


def _use(directory: Path, kind: str, name: str) -> str:
    files = [path.name for path in sorted(directory.glob("*.jsonl*"))]
    if kind == "dataset" and files:  # text or chats that are not packed
        return "Lines of JSON: " + ", ".join(f"`-d {name}/{file}`" for file in files) + ".\n"
    return _USE[kind].format(name=name)


def _front_matter(kind: str) -> str:
    if kind != "model":
        return f"---\ntags:\n- nano2\n- {kind}\n---\n"
    hub = "library_name: transformers\npipeline_tag: text-generation\n"
    return f"---\n{hub}tags:\n- nano2\n- nemotron_h\n- mamba2\n---\n"


def _device(provenance: "Provenance") -> str:
    device = provenance.device
    count = device.get("count", 1)
    name = f"{device.get('type', 'an unrecorded device')} {device.get('name', '')}".strip()
    return name if count == 1 else f"{count} x {name}"


def _metric_rows(provenance: "Provenance") -> list[tuple[str, ...]]:
    return [
        (key, f"{value:.6g}" if isinstance(value, float) else str(value))
        for key, value in provenance.metrics.items()
    ]


def _input_rows(inputs: "list[Parent]") -> list[tuple[str, ...]]:
    return [
        (
            f"`{item.path}`",
            item.kind,
            "" if item.weight is None else f"{item.weight:g}",
            f"`{short_hash(item.content_hash)}`",
        )
        for item in inputs
    ]


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [header, ["---"] * len(header), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _fenced(language: str, text: str) -> str:
    fence = "````" if "```" in text else "```"
    return f"{fence}{language}\n{text}\n{fence}\n"
