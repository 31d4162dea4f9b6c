"""An evaluation on disk: results.json and samples_TASK.jsonl in lm-eval's format, written and read."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.artifact.provenance import Provenance, read_provenance
from model.errors import ArtifactError

if TYPE_CHECKING:
    from evals.evaluation import Evaluation

RESULTS_FILE = "results.json"


@dataclass(frozen=True)
class StoredEvaluation:
    """What lies in an eval artifact. samples: by task; empty if it was made without them."""

    directory: Path
    provenance: Provenance
    results: dict[str, Any]
    samples: dict[str, list[dict[str, Any]]]


def write_evaluation(directory: Path, evaluation: "Evaluation", *, samples: bool) -> None:
    """`samples`: with the questions and answers."""
    from lm_eval.utils import handle_non_serializable  # reading needs none of it

    text = json.dumps(
        evaluation.results, indent=2, ensure_ascii=False, sort_keys=True, default=handle_non_serializable
    )
    (directory / RESULTS_FILE).write_text(text + "\n", encoding="utf-8")
    if samples:
        for task, of_task in evaluation.samples.items():
            with (directory / samples_file(task)).open("w", encoding="utf-8") as file:
                for sample in of_task:
                    line = json.dumps(_line(sample), ensure_ascii=False, default=handle_non_serializable)
                    file.write(line + "\n")


def samples_file(task: str) -> str:
    """The name of a task's file of samples."""
    safe = "~".join(re.sub(r"[^\w@.:+-]", "_", part) for part in task.split("/"))
    return f"samples_{safe}.jsonl"


def read_evaluation(directory: Path) -> StoredEvaluation:
    """ArtifactError if the directory is no whole eval artifact; names the file and line that is damaged."""
    provenance = read_provenance(directory)
    if provenance is None or provenance.kind != "eval":
        kind = "no artifact of nano2" if provenance is None else f"an artifact of kind {provenance.kind!r}"
        raise ArtifactError(f"is {kind}", where=str(directory), remedy="give what nano2 eval made")
    path = directory / RESULTS_FILE
    results = _parsed(_text(path), str(path))
    if not all(isinstance(results.get(key), dict) for key in ("results", "configs", "n-samples")):
        raise _damaged("has not the parts that lm-eval writes", str(path))
    samples = {
        task: _read_samples(directory / samples_file(task))
        for task in results["n-samples"]
        if (directory / samples_file(task)).is_file()
    }
    return StoredEvaluation(directory, provenance, results, samples)


def _line(sample: Mapping[str, Any]) -> dict[str, Any]:
    """One document and filter, in the form that lm-eval's own `--log_samples` writes."""
    arguments = {
        f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(parts)}
        for i, parts in enumerate(sample["arguments"])
    }
    return {
        **sample,
        "arguments": arguments,
        "resps": _as_text(sample["resps"]),
        "filtered_resps": _as_text(sample["filtered_resps"]),
        "target": str(sample["target"]),
    }


def _as_text(responses: Any) -> Any:
    return [_as_text(each) for each in responses] if isinstance(responses, list | tuple) else str(responses)


def _read_samples(path: Path) -> list[dict[str, Any]]:
    lines = _text(path).removesuffix("\n").split("\n")
    samples = [_parsed(line, f"{path} line {number}") for number, line in enumerate(lines, start=1)]
    for number, sample in enumerate(samples, start=1):
        if not all(key in sample for key in ("doc_hash", "filter", "metrics")):
            raise _damaged("is no sample as lm-eval writes one", f"{path} line {number}")
    return samples


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(f"cannot be read ({error})", str(path)) from error


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise _damaged(f"is no JSON ({error})", where) from error
    if not isinstance(value, dict):
        raise _damaged("is no JSON object", where)
    return value


def _damaged(what: str, where: str) -> ArtifactError:
    return ArtifactError(what, where=where, remedy="make the evaluation again")
