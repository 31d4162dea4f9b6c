"""What a prune will try and take, without weights: a config.json is enough, or a preset's name."""

from dataclasses import dataclass

from model.config import HybridConfig
from model.counting import count_parameters, forward_flops_per_token, training_flops_per_token
from model.errors import PlanRefusedError
from model.loading import read_config
from stages.common.evaluation.scoring import check_ranking
from stages.common.evaluation.tasks import plan_tasks, single_tasks
from stages.common.plan import Plan, PlanValue
from stages.common.training.batches import TrainingData
from stages.common.training.hardware import available_bytes, resolve_device
from stages.common.training.memory import training_memory
from stages.prune.config import PruneConfig
from stages.prune.kept import Shape, check_keep
from stages.prune.search.blocks import Blocks, estimate
from stages.prune.search.budget import GIB, gib
from stages.prune.search.candidates import Candidate, Candidates
from stages.prune.search.space import describe
from stages.prune.searching import find_candidates, shallowest


def plan(config: PruneConfig) -> Plan:
    whole = _whole(config)
    check_keep(whole.pattern, shallowest(config, whole), config.least.by_letter)
    blocks = Blocks.of(whole.pattern)
    candidates = find_candidates(config, whole, lambda depth: estimate(blocks, config.least, depth))
    tried = _tried(config, candidates)
    if config.evaluation is not None and config.model.exists():
        check_ranking(single_tasks(plan_tasks(config.evaluation, config.model)), ())
    made = Plan(
        title=f"prune {config.model}",
        sections={
            "Model": {
                "parameters": count_parameters(whole).total,
                "memory_bytes": config.budget.footprint(whole).total_bytes,
                "pattern": whole.pattern,
            },
            "Search": {
                "shapes": len(candidates.ranked),
                "within_budget": len(candidates.fitting),
                "tried_at_most": len(tried),
            },
        },
        rows=_rows(candidates, tried),
        warnings=_warnings(config, whole, candidates),
    )
    if aside := _passed_over(config, candidates):
        made.sections["Not among the first by memory"] = aside
    try:
        candidates.check()
    except PlanRefusedError as error:
        made.refusals.append(f"{error.what}: {error.remedy}")
        return made
    _add_work(made, config, whole, tried)
    return made


def _whole(config: PruneConfig) -> HybridConfig:
    """The shape of the model, or the preset's where the model is yet to be made."""
    if config.preset is not None and not config.model.exists():
        return HybridConfig.preset(config.preset)
    return read_config(config.model)


def _tried(config: PruneConfig, candidates: Candidates) -> list[Candidate]:
    """What a run cuts, at most: the shapes given, or those of the first ranks at each depth."""
    return list(candidates.given) or [
        candidate for candidate in candidates.fitting if candidate.rank <= config.top_k
    ]


def _rows(candidates: Candidates, tried: list[Candidate]) -> list[dict[str, object]]:
    """What is tried first, then what else fits."""
    others = [candidate for candidate in candidates.fitting if candidate not in tried]
    return [{**candidate.row(), "tried": candidate in tried} for candidate in [*tried, *others]]


def _passed_over(config: PruneConfig, candidates: Candidates) -> dict[str, PlanValue]:
    """Of the shapes given those that the rule of most memory first would not try, and why."""
    found: dict[str, PlanValue] = {}
    for candidate in candidates.given:
        rivals = candidates.at(candidate.shape.layers)
        if candidate.rank > config.top_k:
            least = rivals[config.top_k - 1].footprint.total_bytes / GIB
            found[describe(candidate.shape, Shape.of(candidates.whole))] = (
                f"rank {candidate.rank} of {len(rivals)} with {candidate.footprint.total_bytes / GIB:.2f} GiB; "
                f"the first {config.top_k} take {least:.2f} GiB or more"
            )
    return found


def _warnings(config: PruneConfig, whole: HybridConfig, candidates: Candidates) -> list[str]:
    warnings = []
    depths = {candidate.shape.layers for candidate in candidates.ranked} - {whole.num_hidden_layers}
    if any(depth != config.least.total for depth in depths):
        warnings.append(
            "which kinds of blocks go is decided by their importance: parameters and memory are for equal shares of "
            "each kind (--keep-mamba, --keep-mlp and --keep-attention fix them)"
        )
    if config.min_speedup is not None:
        warnings.append("--min-speedup is measured in the run: shapes that are too slow are passed over then")
    return warnings


@dataclass(frozen=True)
class _Work:
    """FLOPs of the parts of a run, on rows of `seq_len` tokens."""

    width_flops: float
    layer_flops: float
    trial_flops: float


def _add_work(made: Plan, config: PruneConfig, whole: HybridConfig, tried: list[Candidate]) -> None:
    """Memory, work and disk, where the data is there to say how long its rows are."""
    missing = [str(item.path) for item in config.data if not item.path.exists()]
    if missing:
        made.warnings.append(f"{missing[0]} is not there: work and memory are not estimated")
        return
    seq_len = TrainingData(config.data).seq_len if config.data else 0
    work = _work(config, whole, tried, seq_len)
    made.sections["Work"] = {
        "row_tokens": seq_len,
        "width_importance_flops": work.width_flops,
        "layer_importance_flops": work.layer_flops,
        "distillation_flops": work.trial_flops,
    }
    weights = 2 * count_parameters(whole).total
    memory: dict[str, PlanValue] = {"model_bytes": weights}
    peak = weights
    if config.distill_tokens:
        largest = max(tried, key=lambda candidate: candidate.footprint.parameters)
        student = largest.applied(whole)
        trial = training_memory(student, config.micro_batch, seq_len, config.precision).total
        memory["distillation_bytes"] = trial
        peak += trial
    available = available_bytes(resolve_device(config.device))
    made.sections["Memory"] = memory | {"available_bytes": available}
    made.peak_bytes = peak
    if peak > available:
        made.refusals.append(
            f"{gib(peak)} are needed, {gib(available)} are there: lower --micro-batch or --distill-tokens"
        )


def _work(config: PruneConfig, whole: HybridConfig, tried: list[Candidate], seq_len: int) -> _Work:
    forward = forward_flops_per_token(whole, seq_len or 1) * seq_len
    measured = config.importance is None
    blocks = whole.num_hidden_layers
    # Leaving each of n blocks out runs those behind it: n (n + 1) / 2, beside one run of all.
    passes = sum(
        1 + left * (left + 1) / 2 / blocks for left in range(shallowest(config, whole) + 1, blocks + 1)
    )
    samples = min(config.samples, config.layer_samples or config.samples)
    return _Work(
        width_flops=measured * config.samples * forward,
        layer_flops=measured * samples * forward * passes,
        trial_flops=sum(
            config.distill_tokens
            * (
                training_flops_per_token(candidate.applied(whole), seq_len or 1)
                + forward_flops_per_token(whole, seq_len or 1)
            )
            for candidate in tried
        ),
    )
