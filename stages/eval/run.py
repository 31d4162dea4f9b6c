"""`nano2 eval`: lm-eval tasks on a model, into an artifact with lm-eval's results and a report."""

from functools import partial
from pathlib import Path

from evals.callbacks import Callbacks
from evals.evaluation import Evaluation
from evals.report import ReportPart, write_report
from evals.response_cache import ResponseCache
from evals.results import figure_name, figure_rows, figures
from evals.stored import write_evaluation
from model.loading import load
from stages.common.evaluation.measuring import measure
from stages.common.evaluation.tasks import take_tasks
from stages.common.stage import StageContext, StageResult
from stages.common.tables import table
from stages.common.training.hardware import resolve_device
from stages.eval.config import EvalConfig

REPORT_FILE = "report.html"


def run(config: EvalConfig, context: StageContext) -> StageResult:
    """Rows are tasks and metrics; the metrics are named `task/metric`."""
    tasks = take_tasks(config, config.model)
    model_hash = next(item.content_hash for item in context.inputs if item.field == "model")
    device = resolve_device(config.device)
    context.device = str(device)
    check = partial(context.check_stop, "the answers so far are kept")
    with ResponseCache(_cache_file(config, context, model_hash), context.reporter.warn) as cache:
        if len(cache):
            context.reporter.log(f"{len(cache):,} answers are there already, in {cache.path}")
        evaluation = measure(
            load(config.model, device, config.dtype),
            config.model,
            config,
            tasks,
            identity=model_hash,
            cache=cache,
            callbacks=Callbacks(context.reporter.progress, context.reporter.warn, check),
        )
    _warn_of_what_had_no_effect(config, context, evaluation)
    write_evaluation(context.staging, evaluation, samples=config.samples)
    part = ReportPart(
        config.model.resolve().name, _facts(config, model_hash), evaluation.results, evaluation.samples
    )
    write_report(context.staging / REPORT_FILE, [part], shown_samples=config.samples)
    return _result(context, evaluation)


def _cache_file(config: EvalConfig, context: StageContext, model_hash: str) -> Path:
    """Where answers are kept: for this run alone, or for all evaluations of the model."""
    if config.cache is None:
        return context.run_dir / "answers"
    return config.cache / f"{model_hash.removeprefix('sha256:')[:16]}.answers"


def _warn_of_what_had_no_effect(config: EvalConfig, context: StageContext, evaluation: Evaluation) -> None:
    for task, shots in evaluation.results["n-shot"].items():
        if config.num_fewshot not in (None, shots):
            context.reporter.warn(f"{task} fixes its number of worked examples: {shots}")
    for task, used in evaluation.results["nano2"]["generation"].items():
        if config.repeats > 1 and all(settings["temperature"] == 0 for settings in used):
            context.reporter.warn(
                f"{task} is answered greedily: its {config.repeats} answers to an item are the same"
            )
        if config.budgets and not any(settings["thinking"] for settings in used):
            context.reporter.warn(
                f"{task} does not think (/no_think in its messages): budgets change nothing"
            )


def _facts(config: EvalConfig, model_hash: str) -> dict[str, str]:
    """What the report says of the settings: those that decide the result, wherever files lie."""
    decisive = config.model_dump(mode="json", exclude=set(config.cosmetic_fields()) | {"model", "include"})
    decisive["tasks"] = [Path(name).name if Path(name).is_file() else name for name in config.tasks]
    given = {name: value for name, value in decisive.items() if value not in (None, [], {}, "")}
    return {
        "model": f"{config.model.resolve().name}, content {model_hash}",
        **{name: str(value) for name, value in given.items()},
    }


def _result(context: StageContext, evaluation: Evaluation) -> StageResult:
    found = {name: evaluation.results["nano2"].get(name, []) for name in ("budgets", "repeats", "ruler")}
    by_length = [row for row in found["ruler"] if row["depth"] is None]
    for title, rows in (
        ("By thinking budget", found["budgets"]),
        ("Repeated answers", found["repeats"]),
        ("RULER by length", by_length),
    ):
        if rows:
            context.reporter.output(table(title, rows))
    return StageResult(
        metrics={
            figure_name(task, metric, rule): value
            for task, metric, rule, value, _ in figures(evaluation.results)
        },
        rows=figure_rows(evaluation.results, evaluation.samples),
        data={name: rows for name, rows in found.items() if rows},
    )
