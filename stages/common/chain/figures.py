"""What each stage of the demo did: one figure of the same held-out items before it and after it.

A figure is a metric of an artifact, `ARTIFACT/METRIC`: of the stage's own, where it measures both sides, or of evaluations.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stages.common.chain.artifacts import Chain
from stages.common.results import Cell, ResultFile, write_result

Verdict = Literal["better", "worse", "no difference", "within its error"]

_ERRORS = 2.0
"""A difference of so many standard errors is told apart from chance."""


@dataclass(frozen=True)
class Measure:
    """name: of the figure in the result file. stage: what changed the model. before, after: `(artifact, metric)`, a number
    where it is known without measuring. better: which way the stage should move it. items: how many a share is of, where no
    evaluation tells its standard error."""

    name: str
    stage: str
    figure: str
    before: tuple[str, str] | float
    after: tuple[str, str]
    better: Literal["higher", "lower"]
    items: tuple[str, str] | None = None


_ERRANDS, _INSTRUCTIONS = "errands/test/right", "instructions/test/right"


def _evaluated(name: str, stage: str, figure: str, metric: str, before: str, after: str) -> Measure:
    return Measure(name, stage, figure, (f"{before}-eval", metric), (f"{after}-eval", metric), "higher")


def _own(name: str, stage: str, figure: str, metric: str, better: Literal["higher", "lower"]) -> Measure:
    """A stage that measures the model it starts from."""
    return Measure(name, stage, figure, (stage, f"{metric}_before"), (stage, metric), better)


_RIGHT = "right answers to held-out errands"
_FOLLOWED = "held-out instructions followed"

MEASURES: tuple[Measure, ...] = (
    Measure(
        "tokenizer",
        "tokenizer",
        "bytes of held-out text a token",
        1.0,
        ("tokenizer", "bytes_per_token"),
        "higher",
    ),
    _own("base", "base", "bits per byte of held-out text", "validation_bits_per_byte", "lower"),
    _own("base_long", "base-long", "the same in rows of 1,024 tokens", "validation_bits_per_byte", "lower"),
    _evaluated("sft1", "sft1", _RIGHT, _ERRANDS, "base-long", "sft1"),
    _evaluated("sft1_instructions", "sft1", _FOLLOWED, _INSTRUCTIONS, "base-long", "sft1"),
    _evaluated("sft2", "sft2", _RIGHT, _ERRANDS, "sft1", "sft2"),
    _evaluated("sft3", "sft3", _RIGHT, _ERRANDS, "sft2", "sft3"),
    _evaluated("sft3_instructions", "sft3", _FOLLOWED, _INSTRUCTIONS, "sft2", "sft3"),
    Measure(
        "pruned_parameters", "pruned", "parameters", ("sft3", "parameters"), ("pruned", "params"), "lower"
    ),
    _evaluated("pruned", "pruned", _RIGHT, _ERRANDS, "sft3", "pruned"),
    _evaluated("distilled", "distilled", _RIGHT, _ERRANDS, "pruned", "distilled"),
    _own("distilled_divergence", "distilled", "nats a token from the teacher", "validation_kl", "lower"),
    _evaluated("dpo", "dpo", _RIGHT, _ERRANDS, "distilled", "dpo"),
    _evaluated("grpo", "grpo", _RIGHT, _ERRANDS, "dpo", "grpo"),
    _own("repaired_divergence", "repaired", "nats a token from the teacher", "validation_kl", "lower"),
    _evaluated("repaired_instructions", "repaired", _FOLLOWED, _INSTRUCTIONS, "grpo", "repaired"),
    Measure(  # a fresh score head gives all answers the same score; guessing ranks half of the pairs right
        "reward",
        "reward",
        "held-out pairs ranked right, from chance",
        0.5,
        ("reward", "validation_accuracy"),
        "higher",
        items=("reward", "pairs_held_out"),
    ),
    _own("rlhf", "rlhf", "the reward model's mean score of held-out answers", "validation_reward", "higher"),
    _evaluated("rlhf_instructions", "rlhf", _FOLLOWED, _INSTRUCTIONS, "repaired", "rlhf"),
    *(
        _evaluated(f"merged_{kind}_{end}", "merged", f"{figure}, against `{end}`", metric, end, "merged")
        for kind, figure, metric in (
            ("errands", _RIGHT, _ERRANDS),
            ("instructions", _FOLLOWED, _INSTRUCTIONS),
        )
        for end in ("repaired", "rlhf")
    ),
)


@dataclass(frozen=True)
class Change:
    """What became of a measure. Standard errors only where items were counted."""

    measure: Measure
    before: float
    after: float
    before_stderr: float | None
    after_stderr: float | None

    @property
    def verdict(self) -> Verdict:
        """Whether the stage moved its figure the way it should. Without standard errors any difference counts."""
        gain = self.after - self.before if self.measure.better == "higher" else self.before - self.after
        if gain == 0:
            return "no difference"
        if self.before_stderr is not None and self.after_stderr is not None:
            error = math.hypot(self.before_stderr, self.after_stderr)
            if abs(gain) < _ERRORS * error:
                return "within its error"
        return "better" if gain > 0 else "worse"

    @property
    def row(self) -> dict[str, Cell]:
        return {
            "stage": self.measure.stage,
            "figure": self.measure.figure,
            "before": self.before,
            "before_stderr": self.before_stderr,
            "after": self.after,
            "after_stderr": self.after_stderr,
            "verdict": self.verdict,
        }


def changes(chain: Chain, measures: Iterable[Measure] = MEASURES) -> list[Change]:
    """ArtifactError naming what is not there or was not measured."""
    return [_change(chain, measure) for measure in measures]


def _change(chain: Chain, measure: Measure) -> Change:
    after, after_error = chain.metric(*measure.after), chain.standard_error(*measure.after)
    if isinstance(measure.before, float):
        before, before_error = measure.before, None
    else:
        before, before_error = chain.metric(*measure.before), chain.standard_error(*measure.before)
    if measure.items is not None:
        count = chain.metric(*measure.items)
        after_error = math.sqrt(after * (1 - after) / count)
        before_error = 0.0 if isinstance(measure.before, float) else math.sqrt(before * (1 - before) / count)
    return Change(measure, before, after, before_error, after_error)


def stage_rows(chain: Chain) -> list[dict[str, Cell]]:
    """One row an artifact: what made it, how long that took, how fast it trained."""
    return [
        {
            "artifact": name,
            "stage": each.stage,
            "parameters": _number(each.metrics.get("parameters", each.metrics.get("params"))),
            "tokens": _number(each.metrics.get("tokens")),
            "tok_per_s": _number(each.metrics.get("tok_per_s")) if "tokens" in each.metrics else None,
            "seconds": round(each.seconds, 1),
            "content_hash": each.content_hash,
        }
        for name, each in chain.provenances.items()
    ]


def metric_rows(chain: Chain) -> list[dict[str, Cell]]:
    """Every number that an artifact's nano2.json tells."""
    return [
        {"artifact": name, "metric": metric, "value": value}
        for name, each in chain.provenances.items()
        for metric, value in each.metrics.items()
        if isinstance(value, int | float) and math.isfinite(value)
    ]


def write_demo_result(chain: Chain, path: Path) -> ResultFile:
    """docs/results/demo.json: `NAME_before`, `NAME_after` of each measure; tables changes, stages and metrics."""
    found = changes(chain)
    metrics = {
        f"{change.measure.name}_{side}": value
        for change in found
        for side, value in (("before", change.before), ("after", change.after))
    }
    metrics |= {
        "artifacts": len(chain.provenances),
        "seconds": round(sum(each.seconds for each in chain.provenances.values()), 1),
        "seconds_of_longest_path": round(chain.longest_path(), 1),
        "stages_better": sum(change.verdict == "better" for change in found),
        "changes": len(found),
    }
    tables = {
        "changes": [change.row for change in found],
        "stages": stage_rows(chain),
        "metrics": metric_rows(chain),
    }
    return write_result(
        path,
        command=["make", "demo", "demo-results"],
        metrics=metrics,
        rows=[{"table": table, **row} for table, rows in tables.items() for row in rows],
        device=chain.provenance("merged").device,
    )


def _number(value: object) -> float | int | None:
    return value if isinstance(value, int | float) else None
