"""What `make demo` made, as a result file: `python -m stages.common.demo_results artifacts -o docs/results/demo.json`.

Figures are read from the artifacts' own nano2.json and metrics.jsonl.
"""

import argparse
import json
import sys
from pathlib import Path

from model.artifact.provenance import Provenance, read_provenance
from model.errors import ArtifactError, Nano2Error
from stages.common.results import Cell, write_result

CHAIN = ("tokenizer", "dataset", "base", "base-eval")


def demo_results(artifacts: Path, out: Path) -> None:
    """Write `out` from the artifacts of the demo's chain. ArtifactError if one is missing."""
    chain = {name: _provenance(artifacts / name) for name in CHAIN}
    curve = _validation_curve(artifacts / "base")
    stages: list[dict[str, Cell]] = [
        {
            "table": "stages",
            "artifact": name,
            "stage": provenance.stage,
            "seconds": round(provenance.seconds, 1),
            "content_hash": provenance.content_hash,
        }
        for name, provenance in chain.items()
    ]
    validations: list[dict[str, Cell]] = [
        {"table": "validation", "step": step, "bits_per_byte": bits} for step, bits in curve.items()
    ]
    base = chain["base"].metrics
    metrics = {name: float(base[name] or 0) for name in ("parameters", "tokens", "tok_per_s")}
    metrics |= {
        "seconds": round(sum(provenance.seconds for provenance in chain.values()), 1),
        "validation_bits_per_byte_first": next(iter(curve.values())),
        "validation_bits_per_byte": list(curve.values())[-1],
    }
    write_result(
        out,
        command=["make", "demo", "demo-results"],
        metrics=metrics,
        rows=[*stages, *validations],
        device=chain["base"].device,
    )


def _provenance(directory: Path) -> Provenance:
    provenance = read_provenance(directory)
    if provenance is None:
        raise ArtifactError(
            "this part of the demo is not there", where=str(directory), remedy="run `make demo`"
        )
    return provenance


def _validation_curve(directory: Path) -> dict[int, float]:
    """Bits per byte of held-out text by step."""
    lines = [
        json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    key = "validation_bits_per_byte"
    return {line["step"]: line[key] for line in lines if key in line}


def main() -> int:
    parser = argparse.ArgumentParser(description="Collect the demo's figures into a result file.")
    parser.add_argument("artifacts", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        demo_results(arguments.artifacts, arguments.out)
    except Nano2Error as error:
        print(f"error: {error}\n  next:  {error.remedy}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
