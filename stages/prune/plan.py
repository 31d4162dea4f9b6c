"""What a prune will try and take, without weights: a config.json is enough, or a preset's name."""

import torch

from model.config import HybridConfig
from model.counting import count_parameters, forward_flops_per_token, training_flops_per_token
from model.errors import PlanRefusedError
from model.loading import read_config
from stages.common.evaluation.scoring import check_ranking
from stages.common.evaluation.tasks import plan_tasks, single_tasks
from stages.common.plan import Plan, PlanValue
from stages.common.preset import missing_rows_warning, preset_shape
from stages.common.training.batches import TrainingData
from stages.common.training.hardware import available_bytes, matrix_rate, resolve_device
from stages.common.training.memory import forward_bytes, training_memory
from stages.common.training.planned_mesh import on_each_rank, planned_mesh
from stages.common.training.planning import TYPICAL_SHARE, expects_fused_kernels
from stages.prune.config import PruneConfig
from stages.prune.kept import Shape, check_keep
from stages.prune.search.blocks import Blocks, estimate
from stages.prune.search.budget import GIB, gib
from stages.prune.search.candidates import Candidate, Candidates
from stages.prune.search.space import describe
from stages.prune.searching import find_candidates, shallowest


def plan(config: PruneConfig) -> Plan:
    whole = preset_shape(config.model, config.preset) or read_config(config.model)
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
                "tried_at_most": _trials(config, candidates),
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
    _add_work(made, config, whole, candidates)
    return made


def _tried(config: PruneConfig, candidates: Candidates) -> list[Candidate]:
    """What a run cuts, at most: the shapes given, or those of the first ranks at each depth."""
    return list(candidates.given) or [
        candidate for candidate in candidates.fitting if candidate.rank <= config.top_k
    ]


def _trials(config: PruneConfig, candidates: Candidates) -> int:
    """How many shapes a run tries at most: those given, or each depth and then the first ranks at one."""
    if candidates.given or not candidates.fitting:
        return len(candidates.given)
    depths = candidates.depths()
    deep = {candidate.shape for candidate in depths} if len(depths) > 1 else set()
    wide = [candidates.at(candidate.shape.layers)[: config.top_k] for candidate in depths]
    return max(len(deep | {candidate.shape for candidate in of_depth}) for of_depth in wide)


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


def _add_work(made: Plan, config: PruneConfig, whole: HybridConfig, candidates: Candidates) -> None:
    """Work, time and memory, where the data is there to say how long its rows are."""
    if missing := [str(item.path) for item in config.data if not item.path.exists()]:
        if config.planned_seq_len is None:
            made.warnings.append(f"{missing[0]} is not there: work and memory are not estimated")
            return
        made.warnings.append(missing_rows_warning(config.planned_seq_len))
    if not config.data:
        return
    seq_len = (
        config.planned_seq_len if missing and config.planned_seq_len else TrainingData(config.data).seq_len
    )
    largest = max(candidates.given or candidates.fitting, key=lambda each: each.footprint.parameters).applied(
        whole
    )
    work = _importance_flops(config, whole, seq_len)
    work["distillation_flops"] = (
        _trials(config, candidates)
        * config.distill_tokens
        * (training_flops_per_token(largest, seq_len) + forward_flops_per_token(whole, seq_len))
    )
    device = resolve_device(config.device)
    rate = matrix_rate(device, getattr(torch, config.activations))
    # more if it is stored in float32
    forward = forward_bytes(whole, config.sample_batch, seq_len, "bfloat16")
    mesh = planned_mesh(config)
    memory = on_each_rank({f"model_{name}": value for name, value in forward.items()}, mesh)
    peak = sum(memory.values())
    rows = config.samples
    if config.distill_tokens:
        trial = training_memory(
            largest,
            config.micro_batch,
            seq_len,
            config.precision,
            recompute=config.recompute,
            mesh=mesh,
            fused=expects_fused_kernels(config.kernels, device),
        )
        peak += trial.total
        memory |= {
            f"trial_{name}": int(value) for name, value in trial.section().items() if name != "total_bytes"
        }
        rows = (config.batch_tokens or config.micro_batch * seq_len) // seq_len
    available = available_bytes(device)
    made.sections["Work"] = {
        "row_tokens": seq_len,
        "tokens": config.samples * seq_len + _trials(config, candidates) * config.distill_tokens,
        "tokens_per_step": rows * seq_len,
        **work,
    }
    made.sections["Memory"] = {**memory, "available_bytes": available}
    made.peak_bytes = peak
    made.seconds = sum(work.values()) / rate / TYPICAL_SHARE / (1 if mesh is None else mesh.ranks)
    if made.peak_bytes > available:
        made.refusals.append(
            f"{gib(made.peak_bytes)} are needed, {gib(available)} are there: lower --micro-batch or --distill-tokens, "
            "or use a machine with more memory"
        )


def _importance_flops(config: PruneConfig, whole: HybridConfig, seq_len: int) -> dict[str, float]:
    """None where importance is read from a file. To rank a block, the whole model runs once, and for each of n blocks that
    is left out those behind it: n (n + 1) / 2 blocks."""
    if config.importance is not None:
        return {}
    forward = seq_len * forward_flops_per_token(whole, seq_len)
    blocks = whole.num_hidden_layers
    passes = sum(
        1 + left * (left + 1) / 2 / blocks for left in range(shallowest(config, whole) + 1, blocks + 1)
    )
    return {
        "width_importance_flops": config.samples * forward,
        "layer_importance_flops": min(config.samples, config.layer_samples or config.samples)
        * forward
        * passes,
    }
