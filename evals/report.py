"""report.html: what one evaluation found, or several side by side, in one file that needs nothing else to be read.

Plots are SVG inside of the page, samples are escaped text. The same evaluations make the same bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from evals.answers import OUTCOMES
from evals.plots import Bar, budget_plot, heat_map, outcome_plot, pass_plot, score_plot
from evals.results import documents, figure_rows, figures, interval, primary_figures
from model.artifact.staging import write_text_atomic

SHOWN_SAMPLES = 4
"""Of each task and part."""

_SHOWN_CHARACTERS = 3000

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ReportPart:
    """An evaluation to tell of. facts: its settings and where it comes from, as name and text."""

    name: str
    facts: Mapping[str, str]
    results: Mapping[str, Any]
    samples: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; rows have the same keys."""

    title: str
    note: str = ""
    plots: Sequence[Markup] = ()
    rows: Sequence[Row] = ()
    samples: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


def write_report(
    path: Path, parts: Sequence[ReportPart], *, shown_samples: bool = True, before: Sequence[Section] = ()
) -> None:
    """Write the page. `before`: sections that come first, such as a comparison. The parts have different names."""
    sections = [
        *before,
        *_scores(parts),
        *_outcomes(parts),
        *_budgets(parts),
        *_repeats(parts),
        *_ruler(parts),
        *(_examples(parts) if shown_samples else ()),
        *_settings(parts),
    ]
    write_page(path, "Evaluation of " + " and ".join(part.name for part in parts), sections)


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """One HTML file that needs nothing else to be read."""
    write_text_atomic(path, _template().render(title=title, sections=sections) + "\n")


def _scores(parts: Sequence[ReportPart]) -> Iterable[Section]:
    tasks: dict[str, None] = {}
    bars: dict[str, dict[str, Bar]] = {}
    rows = []
    for part in parts:
        primary = primary_figures(part.results, part.samples)
        for task, metric, rule, value, stderr in figures(part.results):
            if 0 <= value <= 1 and primary.get(task) == (metric, rule):
                bars.setdefault(part.name, {})[task] = (
                    value,
                    interval(value, stderr, documents(part.results, task)),
                )
                tasks[task] = None
        for row in figure_rows(part.results, part.samples):
            span = interval(row["value"], row["stderr"], row["n"])
            shown = {**row, "95% interval": "" if span is None else f"{span[0]:.3f} to {span[1]:.3f}"}
            rows.append({"of": part.name, **shown} if len(parts) > 1 else shown)
    plots = []
    if tasks:
        of_parts = {part.name: [bars.get(part.name, {}).get(task) for task in tasks] for part in parts}
        plots = [Markup(score_plot(list(tasks), of_parts))]
    yield Section(
        "Scores",
        "The plot has each task's first metric, where it is a share. Standard errors are over items; intervals are "
        "Wilson's for shares.",
        plots,
        rows,
    )


def _outcomes(parts: Sequence[ReportPart]) -> Iterable[Section]:
    shares: dict[str, dict[str, float]] = {}
    for part in parts:
        for task, metric, rule, value, _ in figures(part.results):
            if metric in OUTCOMES:
                shares.setdefault(_label(part, parts, task, rule), {})[metric] = value
    shares = {name: of_name for name, of_name in shares.items() if len(of_name) == len(OUTCOMES)}
    if shares:
        note = (
            "Unfinished: cut at the token limit. Malformed: thinking not closed exactly once, or a broken tool call. "
            "Right and wrong: of the rest."
        )
        yield Section("What became of the answers", note, [Markup(outcome_plot(shares))])


def _budgets(parts: Sequence[ReportPart]) -> Iterable[Section]:
    lines: dict[str, list[Row]] = {}
    rows = []
    for part in parts:
        for row in part.results.get("nano2", {}).get("budgets", ()):
            lines.setdefault(_label(part, parts, row["task"]), []).append(row)
            shown = {
                name: "none" if name == "budget" and value is None else value for name, value in row.items()
            }
            rows.append({"of": part.name, **shown} if len(parts) > 1 else shown)
    if rows:
        note = "Accuracy counts answers that ended, are well-formed and right; tokens are means over answers."
        yield Section("Thinking budgets", note, [Markup(budget_plot(lines))], rows)


def _repeats(parts: Sequence[ReportPart]) -> Iterable[Section]:
    curves: dict[str, dict[int, float]] = {}
    rows = []
    for part in parts:
        for row in part.results.get("nano2", {}).get("repeats", ()):
            passed = {
                int(name[5:]): value
                for name, value in row.items()
                if name.startswith("pass@") and value is not None
            }
            if passed:
                curves[_label(part, parts, row["task"])] = passed
            plain = {name: value for name, value in row.items() if not name.startswith("pass@")}
            rows.append({"of": part.name, **plain} if len(parts) > 1 else plain)
    if rows:
        note = (
            "stderr is clustered by item; within is the part of it that more answers to each item would take away, "
            "between the part that only more items would."
        )
        yield Section("Repeated answers", note, [Markup(pass_plot(curves))] if curves else [], rows)


def _ruler(parts: Sequence[ReportPart]) -> Iterable[Section]:
    for part in parts:
        table = part.results.get("nano2", {}).get("ruler", ())
        if not table:
            continue
        by_length = {
            (row["task"], str(row["length"])): row["score"] / 100 for row in table if row["depth"] is None
        }
        plots = [heat_map(by_length, "By context length", "task", "context length in tokens")]
        for task in dict.fromkeys(row["task"] for row in table if row["depth"] is not None):
            cells = {
                (row["depth"], str(row["length"])): row["score"] / 100
                for row in table
                if row["task"] == task and row["depth"] is not None
            }
            plots.append(heat_map(cells, task, "depth of the needle", "context length in tokens"))
        title = "RULER" if len(parts) == 1 else f"RULER: {part.name}"
        yield Section(
            title, "Share of the expected texts that are in the answer.", [Markup(plot) for plot in plots]
        )


def _examples(parts: Sequence[ReportPart]) -> Iterable[Section]:
    shown = [
        _example(_label(part, parts, task), sample)
        for part in parts
        for task, of_task in part.samples.items()
        for sample in of_task[:SHOWN_SAMPLES]
        if sample.get("generations")
    ]
    if shown:
        yield Section("Some answers", "The first of each task.", samples=shown)


def _example(label: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    answer = sample["generations"][0]
    arguments = sample["arguments"]
    prompt = arguments["gen_args_0"]["arg_0"] if isinstance(arguments, Mapping) else arguments[0][0]
    texts = [("asked", prompt), ("generated", answer["text"]), ("reference", str(sample["target"]))]
    if answer.get("detail"):
        texts.append(("grader", answer["detail"]))
    outcome = next((name for name in OUTCOMES if sample.get(name) == 1), "")
    return {
        "title": f"{label}, item {sample['doc_id']}: {sample['metrics'][0]} {_shown(sample[sample['metrics'][0]])}",
        "outcome": outcome,
        "texts": [(name, _shortened(text)) for name, text in texts],
    }


def _settings(parts: Sequence[ReportPart]) -> Iterable[Section]:
    names = dict.fromkeys(name for part in parts for name in part.facts)
    rows = [{"setting": name, **{part.name: part.facts.get(name, "") for part in parts}} for name in names]
    yield Section("Settings", rows=rows)
    used = [
        {**({"of": part.name} if len(parts) > 1 else {}), "task": task, **settings}
        for part in parts
        for task, of_task in part.results.get("nano2", {}).get("generation", {}).items()
        for settings in of_task
    ]
    if used:
        yield Section("How answers were generated", "Temperature 0 is greedy.", rows=used)


def _label(part: ReportPart, parts: Sequence[ReportPart], task: str, rule: str = "none") -> str:
    label = task if rule == "none" else f"{task}, {rule}"
    return label if len(parts) == 1 else f"{part.name}: {label}"


def _shortened(text: str) -> str:
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    half = _SHOWN_CHARACTERS // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters ...]\n{text[-half:]}"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["shown"] = _shown
    return environment.from_string(Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8"))
