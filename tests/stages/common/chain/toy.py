"""The demo's recipes at toy size: the same stages and targets, each in seconds."""

import gzip
import json
import os
import subprocess
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[4]
DATA = "recipes/cpu/data"

_SIZES: dict[str, dict[str, Any]] = {  # None: the setting is left out
    "tokenizer": {"vocab_size": 512},
    "text": {"duplicates": "exact"},
    "longqa": {"max_documents": 10},
    "errands": {"train": 60, "dev": 6, "test": 6},
    "sloppy": {"train": 40},
    "instructions": {"train": 60, "dev": 6, "test": 6},
    "base": {"tokens": "20k", "warmup_tokens": "2k"},
    "base-long": {"tokens": "8k"},
    "pruned": {"samples": 8, "layer_samples": 4, "distill_tokens": "2k"},
    "distilled": {"tokens": "8k"},
    "repaired": {"tokens": "8k"},
    "grpo": {"steps": 3, "prompts": 2, "samples": 2, "max_tokens": 16},
    "rlhf": {"steps": 3, "prompts": 2, "samples": 2, "max_tokens": 16},
    # A model that knows nothing has no right answers to pair with wrong ones: pairs of a file instead.
    "dpo": {
        **dict.fromkeys(
            ("prompts", "rounds", "prompts_per_round", "samples", "pairs_per_prompt", "steps_per_round")
        ),
        **dict.fromkeys(("max_tokens", "max_turns", "rollout_rows")),
        "data": ["{demo}/instructions/train-pairs.jsonl"],
        "batch_pairs": 8,
    },
    "merged": {"limit": 2, "gen": {"max_gen_toks": 8}},
    "eval": {"limit": 2, "gen": {"temperature": 1.0, "max_gen_toks": 8}},
}

_TRAINED = {
    "base",
    "base-long",
    "sft1",
    "sft2",
    "sft3",
    "pruned",
    "distilled",
    "dpo",
    "grpo",
    "repaired",
    "reward",
    "rlhf",
}


class ToyDemo:
    """The demo's make targets on toy recipes, into a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.artifacts, self.recipes = folder, folder / "demo", folder / "recipes"
        self.recipes.mkdir(parents=True)
        for source in ("books", "code", "math"):
            _shorten(ROOT / DATA / f"{source}.jsonl.gz", folder / f"{source}.jsonl.gz")
        for path in sorted((ROOT / "recipes" / "demo").glob("*.yaml")):
            changes = json.dumps(_SIZES.get(path.stem, {})).replace("{demo}", str(self.artifacts))
            text = path.read_text().replace("artifacts/demo", str(self.artifacts)).replace(DATA, str(folder))
            recipe = yaml.safe_load(text)
            recipe |= json.loads(changes)
            if path.stem in _TRAINED:
                recipe["save_seconds"] = 0.05  # a kill shall find states
            kept = {name: value for name, value in recipe.items() if value is not None}
            (self.recipes / path.name).write_text(yaml.safe_dump(kept))

    def make(self, *targets: str) -> subprocess.Popen[str]:
        """make at work, in a process group of its own."""
        settings = [
            f"DEMO={self.artifacts}",
            f"RECIPES={self.recipes}",
            f"REPORT={self.folder / 'report.html'}",
        ]
        files = [f"{self.artifacts}/{name}/nano2.json" for name in targets] or ["chain"]
        return subprocess.Popen(
            ["make", "--no-print-directory", "OMP_NUM_THREADS=1", "MKL_NUM_THREADS=1", *settings, *files],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"MAKEFLAGS": ""},
        )

    def run(self, *targets: str) -> str:
        """make to its end; what it printed on stdout."""
        process = self.make(*targets)
        out, errors = process.communicate()
        assert process.returncode == 0, errors[-4000:]
        return out

    def hashes(self) -> dict[str, str]:
        """Content hash of each artifact."""
        made = sorted(self.artifacts.glob("*/nano2.json"))
        return {path.parent.name: json.loads(path.read_text())["content_hash"] for path in made}


def _shorten(text: Path, out: Path) -> None:
    """The beginnings of the first texts."""
    with gzip.open(text, "rt", encoding="utf-8") as source, gzip.open(out, "wt", encoding="utf-8") as target:
        for line in islice(source, 12):
            document = json.loads(line)
            target.write(json.dumps(document | {"text": document["text"][:6000]}) + "\n")
