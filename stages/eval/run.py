"""`nano2 eval`: lm-eval tasks on a model, into an artifact with lm-eval's results."""

import json
from pathlib import Path
from typing import Any

from lm_eval.utils import handle_non_serializable, sanitize_list

from evals.evaluation import evaluate, load_tasks
from evals.lm import HybridEvalLM
from stages.common.stage import StageContext, StageResult
from stages.common.training.hardware import resolve_device
from stages.eval.config import EvalConfig

RESULTS_FILE = "results.json"


def run(config: EvalConfig, context: StageContext) -> StageResult:
    """Rows are tasks and metrics; the metrics are named `task/metric`."""
    tasks = load_tasks(config.tasks, config.include)
    lm = HybridEvalLM.from_artifact(
        config.model,
        device=str(resolve_device(config.device)),
        dtype=config.dtype,
        chat=config.apply_chat_template,
        max_length=config.max_length,
        batch_tokens=config.batch_tokens,
        batch_rows=config.batch_rows,
        think_end=config.think_end if config.apply_chat_template else None,
        thinking=config.thinking,
        seed=config.seed,
        progress=context.reporter.progress,
        warn=context.reporter.warn,
    )
    evaluation = evaluate(
        lm,
        tasks,
        limit=config.limit,
        num_fewshot=config.num_fewshot,
        chat=config.apply_chat_template,
        generation=config.gen,
        seed=config.seed,
    )
    for task, shots in evaluation.results["n-shot"].items():
        if config.num_fewshot not in (None, shots):
            context.reporter.warn(f"{task} fixes its number of worked examples: {shots}")
    _write_json(context.staging / RESULTS_FILE, evaluation.results)
    if config.samples:
        for task, samples in evaluation.samples.items():
            _write_samples(context.staging / f"samples_{task}.jsonl", samples)
    rows = evaluation.rows()
    return StageResult(metrics={f"{row['task']}/{row['metric']}": row["value"] for row in rows}, rows=rows)


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True, default=handle_non_serializable)
    path.write_text(text + "\n", encoding="utf-8")


def _write_samples(path: Path, samples: list[dict[str, Any]]) -> None:
    """One line a document and filter, in the form that lm-eval's own `--log_samples` writes."""
    with path.open("w", encoding="utf-8") as file:
        for sample in samples:
            arguments = {
                f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(parts)}
                for i, parts in enumerate(sample["arguments"])
            }
            line = {
                **sample,
                "arguments": arguments,
                "resps": sanitize_list(sample["resps"]),
                "filtered_resps": sanitize_list(sample["filtered_resps"]),
                "target": str(sample["target"]),
            }
            file.write(json.dumps(line, ensure_ascii=False, default=handle_non_serializable) + "\n")
