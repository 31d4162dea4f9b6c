"""report.html of a chain, in one file: where its last model comes from, what each stage changed, what it took."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evals.report import Section, write_page
from evals.results import figures
from model.artifact.hashing import short_hash
from model.artifact.lineage import lineage
from stages.common.chain.artifacts import Chain
from stages.common.chain.figures import MEASURES, changes, stage_rows
from stages.common.chain.graph import Graph
from stages.common.chain.plots import Point, curves, lineage_plot, score_lines, time_bars

LAST = "merged"
SCORED = {"errands": "errands/test", "instructions": "instructions/test"}
"""Kinds of items that every model of the chain was asked, and their tasks."""


def write_chain_report(chain: Chain, path: Path, *, comparison: Path, answer: Path) -> None:
    """comparison: what `nano2 compare --json` printed. answer: what `stages.common.chain.ask` wrote."""
    sections = [
        *_lineage(chain),
        *_changes(chain),
        *_scores(chain),
        *_curves(chain),
        *_time(chain),
        *_comparison(comparison),
        *_answer(answer),
    ]
    write_page(path, "From text to a small reasoning model: the chain", sections)


def _lineage(chain: Chain) -> Iterable[Section]:
    root = lineage(chain.folder / LAST)
    note = (
        "What each artifact was made from, by content hash; raw data above, the last model below. "
        f"nano2 replay {chain.folder / LAST} --run rebuilds it and compares."
    )
    yield Section("Lineage", note, [Markup(lineage_plot(Graph.of(root)))])


def _changes(chain: Chain) -> Iterable[Section]:
    rows = [
        {
            "stage": change.measure.stage,
            "figure": change.measure.figure,
            "before": _with_error(change.before, change.before_stderr),
            "after": _with_error(change.after, change.after_stderr),
            "better is": change.measure.better,
            "verdict": change.verdict,
        }
        for change in changes(chain, MEASURES)
    ]
    note = (
        "The same held-out items before and after. Behind +/- stands a standard error; a difference below two of them is no "
        "finding. The second stage of fine-tuning takes over a habit from its demonstrations on purpose."
    )
    yield Section("What each stage changed", note, rows=rows)


def _scores(chain: Chain) -> Iterable[Section]:
    names = [name.removesuffix("-eval") for name, each in chain.provenances.items() if each.kind == "eval"]
    names.sort(key=list(chain.provenances).index)  # as the models were made
    points: dict[str, list[Point]] = {title: [] for title in SCORED}
    for name in names:
        found = {
            task: (value, stderr)
            for task, metric, _, value, stderr in figures(chain.evaluation(f"{name}-eval").results)
            if metric == "right"
        }
        for title, task in SCORED.items():
            points[title].append(found[task])
    note = "Shares of held-out items, answered at temperature 1; bars are 1.96 standard errors to each side."
    yield Section("Scores along the chain", note, [Markup(score_lines(names, points))])


def _curves(chain: Chain) -> Iterable[Section]:
    logs = {name: lines for name in chain.provenances if (lines := chain.logged(name))}
    trained = {name: lines for name, lines in logs.items() if any("loss" in line for line in lines)}
    rewarded = {name: lines for name, lines in logs.items() if any("reward" in line for line in lines)}
    by_loss = {name: lines for name, lines in trained.items() if name not in rewarded}
    plots = [Markup(curves(by_loss, "loss", "loss"))] if by_loss else []
    plots += [Markup(curves(rewarded, "reward", "mean reward of the samples"))] if rewarded else []
    yield Section("Losses and rewards", "Over the steps of each stage, from its metrics.jsonl.", plots)


def _time(chain: Chain) -> Iterable[Section]:
    rows = stage_rows(chain)
    seconds = {name: each.seconds for name, each in chain.provenances.items()}
    rates = {str(row["artifact"]): row["tok_per_s"] for row in rows}
    total, longest = sum(seconds.values()), chain.longest_path()
    note = (
        f"{total:.0f} seconds in all, {longest:.0f} on the longest path. The starts of processes come on top."
    )
    shown = [{**row, "content_hash": short_hash(str(row["content_hash"]))} for row in rows]
    plot = time_bars(seconds, {name: rate for name, rate in rates.items() if isinstance(rate, int | float)})
    yield Section("Time", note, [Markup(plot)], shown)


def _comparison(path: Path) -> Iterable[Section]:
    told = json.loads(path.read_text(encoding="utf-8"))
    yield Section(
        "Alignment, item by item",
        "The model that distillation made, and the last one: nano2 compare.",
        rows=told.get("rows", []),
    )


def _answer(path: Path) -> Iterable[Section]:
    told: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    texts = [(message["role"], message["content"]) for message in told["messages"]]
    texts.append(("assistant", json.dumps(told["answer"], indent=1, ensure_ascii=False)))
    sample = {"title": f"{told['model']}, {told['seconds']:.2f} seconds", "outcome": "", "texts": texts}
    yield Section("One question to the server", "Asked through the openai client.", samples=[sample])


def _with_error(value: float, stderr: float | None) -> str:
    return f"{value:,.4g}" if stderr is None else f"{value:.3f} +/- {stderr:.3f}"
