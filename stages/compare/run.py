"""`nano2 compare`: evaluations against the first of them, item by item."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.comparison import TaskComparison, compare_task
from evals.statistics import holm
from evals.stored import StoredEvaluation, read_evaluation
from model.artifact.provenance import verify_files
from model.errors import ArtifactError, UsageError
from stages.common.disk import is_disk_full
from stages.common.identity import first_difference
from stages.common.stage import StageContext, StageResult
from stages.common.tables import table
from stages.compare.config import CompareConfig

_NOT_COMPARED = {
    *("model", "tasks", "include", "samples"),
    *("cache", "device", "batch_tokens", "batch_rows"),  # what does not decide the result
}
"""Settings of an evaluation that two to be compared need not share."""

_OF_THE_PLACE = ("metadata", "dataset_kwargs", "task")
"""Parts of a task's configuration that say where it lies, not what it is."""

_SHOWN_CHARACTERS = 60
"""Of a text in a table."""

_FEW_ITEMS = 20

Comparisons = dict[str, list[TaskComparison]]
"""By the name of the evaluation that is compared with the first."""


def run(config: CompareConfig, context: StageContext) -> StageResult:
    """Rows are tasks; `data` has every item that became right or wrong."""
    evaluations = dict(zip(_names(config.evaluations), map(_read, config.evaluations), strict=True))
    (base, first), *others = evaluations.items()
    compared: Comparisons = {}
    for name, second in others:
        _warn_of_settings(base, first, name, second, context)
        compared[name] = _compare(first, second, config)
        if not compared[name]:
            raise _nothing_in_common(base, first, name, second, config)
        _warn_of_items(base, name, compared[name], context)
    rows = _rows(compared, config.level)
    flips = _flips(compared)
    for name in compared:
        shown = _first_of_each_task([flip for flip in flips if flip["compared"] == name], config.flips)
        if shown:
            context.reporter.output(table(f"Items that became right or wrong in {name}", shown))
    if config.report is not None:
        _write_report(config.report, evaluations, rows, _first_of_each_task(flips, config.flips))
    return StageResult(
        rows=rows, notes=_notes(config, base, rows), data={"flips": flips, "evaluations": _told(evaluations)}
    )


def _read(path: Path) -> StoredEvaluation:
    evaluation = read_evaluation(path)
    verify_files(path, evaluation.provenance)
    if not evaluation.samples:
        raise ArtifactError(
            "holds no samples, so nothing can be compared item by item",
            where=str(path),
            remedy="evaluate again without --no-samples",
        )
    return evaluation


def _names(paths: Sequence[Path]) -> list[str]:
    """The directories' names, or the whole paths where these are the same."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _compare(
    first: StoredEvaluation, second: StoredEvaluation, config: CompareConfig
) -> list[TaskComparison]:
    return [
        comparison
        for task in first.samples
        if task in second.samples
        for comparison in compare_task(
            task,
            first.samples[task],
            second.samples[task],
            first.results,
            metric=config.metric,
            resamples=config.resamples,
            level=config.level,
            seed=config.seed,
        )
    ]


def _nothing_in_common(
    base: str, first: StoredEvaluation, name: str, second: StoredEvaluation, config: CompareConfig
) -> Exception:
    tasks = [task for task in first.samples if task in second.samples]
    if not tasks:
        what = f"they have no task in common: {base} has {', '.join(first.samples)}, {name} has {', '.join(second.samples)}"
    elif config.metric is not None:
        known = dict.fromkeys(metric for task in tasks for metric in first.samples[task][0]["metrics"])
        return UsageError(
            f"no task has the metric {config.metric!r} in both",
            where="metric",
            remedy=f"known are {', '.join(known)}",
        )
    else:
        what = f"no item of {tasks[0]} is in both: their documents differ"
    return ArtifactError(what, where=f"{base}, {name}", remedy="evaluate both models on the same tasks")


def _warn_of_settings(
    base: str, first: StoredEvaluation, name: str, second: StoredEvaluation, context: StageContext
) -> None:
    """The first setting that differs, of the evaluations or else of a task."""
    settings = [
        {key: value for key, value in each.provenance.config.items() if key not in _NOT_COMPARED}
        for each in (first, second)
    ]
    difference = first_difference(*settings)
    for task in first.results["configs"]:
        if difference is None and task in second.results["configs"]:
            configs = [
                {
                    key: value
                    for key, value in each.results["configs"][task].items()
                    if key not in _OF_THE_PLACE
                }
                for each in (first, second)
            ]
            if found := first_difference(*configs):
                difference = f"{task}: {found}"
    if difference:
        context.reporter.warn(f"settings differ ('there' is {base}, 'here' {name}): {difference}")


def _warn_of_items(
    base: str, name: str, comparisons: Sequence[TaskComparison], context: StageContext
) -> None:
    for each in comparisons:
        for missing, where in ((each.only_first, base), (each.only_second, name)):
            if missing:
                context.reporter.warn(
                    f"{each.task}: {len(missing)} items are in {where} alone and left out, the first of them {missing[0]}"
                )
        if each.prompts_differ:
            context.reporter.warn(
                f"{each.task}: {len(each.prompts_differ)} of {len(each.pairs)} items were asked in other words, "
                f"the first of them {each.prompts_differ[0].item}"
            )


def _rows(compared: Comparisons, level: float) -> list[dict[str, Any]]:
    all_of_them = [(name, each) for name, comparisons in compared.items() for each in comparisons]
    corrected = holm([each.p_value for _, each in all_of_them])
    return [
        {
            "compared": name,
            "task": each.task,
            "metric": each.metric,
            "items": len(each.pairs),
            "baseline": each.first,
            "score": each.second,
            "difference": each.difference,
            "low": each.low,
            "high": each.high,
            "p": each.p_value,
            "p_holm": p_holm,
            "became_right": None if each.gained is None else len(each.gained),
            "became_wrong": None if each.lost is None else len(each.lost),
            "verdict": _verdict(each, p_holm < 1 - level),
        }
        for (name, each), p_holm in zip(all_of_them, corrected, strict=True)
    ]


def _verdict(comparison: TaskComparison, shown: bool) -> str:
    if not shown:
        return "not told apart"
    if comparison.higher_is_better is None:
        return "higher" if comparison.difference > 0 else "lower"
    return "better" if (comparison.difference > 0) == comparison.higher_is_better else "worse"


def _flips(compared: Comparisons) -> list[dict[str, Any]]:
    """Every item that became right or wrong, with what was answered before and after."""
    return [
        {
            "compared": name,
            "task": each.task,
            "item": pair.item,
            "became": became,
            "wanted": str(pair.first.get("target", "")),
            "before": _answer(pair.first),
            "after": _answer(pair.second),
        }
        for name, comparisons in compared.items()
        for each in comparisons
        for became, pairs in (("wrong", each.lost), ("right", each.gained))
        for pair in pairs or ()
    ]


def _answer(sample: Mapping[str, Any]) -> str:
    """What was answered: the first of the generated texts, or the likeliest choice; empty where there is neither."""
    responses = sample.get("resps") or []
    if sample.get("generations"):
        return str(responses[0][0])
    try:
        likelihoods = [float(response[0][0]) for response in responses]
        choice = likelihoods.index(max(likelihoods))
        return str(sample["arguments"][f"gen_args_{choice}"]["arg_1"]).strip()
    except (TypeError, ValueError, KeyError, IndexError):
        return ""


def _first_of_each_task(flips: Sequence[Mapping[str, Any]], count: int) -> list[dict[str, str]]:
    """At most `count` a task and direction, with short texts."""
    seen: Counter[tuple[str, ...]] = Counter()
    shown = []
    for flip in flips:
        kind = (flip["compared"], flip["task"], flip["became"])
        seen[kind] += 1
        if seen[kind] <= count:
            shown.append({name: _short(value) for name, value in flip.items()})
    return shown


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 3] + "..."


def _notes(config: CompareConfig, base: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = [
        f"Baseline: {base}. Difference with its {config.level:.0%} bootstrap interval; p of a permutation test over items; "
        f"p_holm corrects it for {len(rows)} tests."
    ]
    if any(row["items"] < _FEW_ITEMS for row in rows):
        notes.append(
            f"With fewer than {_FEW_ITEMS} items an interval is too short to be relied on; the test is still exact."
        )
    return notes


def _told(evaluations: Mapping[str, StoredEvaluation]) -> list[dict[str, Any]]:
    """What was compared, for the record."""
    return [
        {
            "name": name,
            "path": str(each.directory),
            "content_hash": each.provenance.content_hash,
            "model": each.provenance.config.get("model"),
        }
        for name, each in evaluations.items()
    ]


def _write_report(
    path: Path,
    evaluations: Mapping[str, StoredEvaluation],
    rows: Sequence[Mapping[str, Any]],
    flips: Sequence[Mapping[str, Any]],
) -> None:
    from evals.report import ReportPart, Section, write_report  # it draws, which takes a second to load

    parts = [
        ReportPart(
            name,
            {
                "content": each.provenance.content_hash or "",
                **{key: str(value) for key, value in each.provenance.config.items()},
            },
            each.results,
            each.samples,
        )
        for name, each in evaluations.items()
    ]
    before = [Section("Comparison, item by item", f"Baseline: {parts[0].name}.", rows=rows)]
    if flips:
        before.append(Section("Items that became right or wrong", rows=flips))
    try:
        write_report(path, parts, before=before)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UsageError(
            f"the report cannot be written ({error.strerror})",
            where=str(path),
            remedy="choose another --report",
        ) from error
