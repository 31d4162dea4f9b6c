"""What a merge will take: bytes read and written, and the memory of a sweep's evaluations."""

from model.artifact.provenance import read_provenance
from model.config import HybridConfig
from model.counting import count_parameters
from model.loading import DTYPES
from stages.common.plan import Plan, PlanValue
from stages.common.preset import preset_shape, preset_warning
from stages.merge.config import MergeConfig
from stages.merge.merging import PIECE, Merge
from stages.merge.sources import Sources, read_sources

_FLOAT64_BYTES = 8
_PROCESS_BYTES = 512 << 20
"""Python and PyTorch with nothing loaded."""


def plan(config: MergeConfig) -> Plan:
    """Compares the models, too, by their headers: what does not fit together is refused before anything is read."""
    if shape := preset_shape(config.model[0].path, config.preset):
        return _of_preset(config, shape)
    sources = read_sources([item.path for item in config.model], verify_hashes=False)
    merge = Merge(sources, config.method, config.weights, DTYPES.get(config.dtype or ""))
    written = sum(info.nbytes for info in merge.tensors.values())
    estimate = Plan(
        title=f"{config.method} merge of {len(sources.models)} models",
        sections={
            "Parameters": {"total": sum(info.count for info in merge.tensors.values())},
            "Files": {"read_bytes": _read_bytes(config, sources), "written_bytes": written},
        },
        peak_bytes=_peak_bytes(len(sources.models)),
        disk_bytes=written,
    )
    return _with_sweep(config, sources, merge, estimate) if config.alphas else estimate


def _of_preset(config: MergeConfig, shape: HybridConfig) -> Plan:
    parameters, models = count_parameters(shape).total, len(config.model)
    dtype = config.dtype or "bfloat16"
    written = parameters * DTYPES[dtype].itemsize
    lack = f"written in {dtype}" + (", without the evaluations of its sweep" if config.alphas else "")
    return Plan(
        title=f"{config.method} merge of {models} models",
        sections={"Parameters": {"total": parameters}, "Files": {"written_bytes": written}},
        peak_bytes=_peak_bytes(models),
        disk_bytes=written,
        warnings=[preset_warning(config.model[0].path, config.preset, lack)],
    )


def _peak_bytes(models: int) -> int:
    return _PROCESS_BYTES + PIECE * _FLOAT64_BYTES * (models + 3)


def _read_bytes(config: MergeConfig, sources: Sources) -> int:
    """Slerp reads a tensor twice; what a nano2.json records is read once more, to compare it."""
    recorded = sum(
        model.files.total_bytes for model in sources.models if read_provenance(model.directory) is not None
    )
    merges = len(config.alphas) + 1
    return recorded + sources.total_bytes * merges * (2 if config.method == "slerp" else 1)


def _with_sweep(config: MergeConfig, sources: Sources, merge: Merge, estimate: Plan) -> Plan:
    from stages.common.evaluation.planning import planned_memory, planned_work, weights_refusals
    from stages.common.evaluation.scoring import check_ranking
    from stages.common.evaluation.tasks import plan_tasks, single_tasks
    from stages.common.training.hardware import available_bytes, resolve_device

    tasks = single_tasks(plan_tasks(config, config.model[0].path))
    check_ranking(tasks, config.best_by)
    device = resolve_device(config.device)
    available = available_bytes(device)
    memory = planned_memory(config, sources.config, str(merge.dtype).removeprefix("torch."))
    sections: dict[str, dict[str, PlanValue]] = {
        **estimate.sections,
        "Sweep": {"evaluations": len(config.alphas)},
        **planned_work(config, tasks),
        "Memory": {**memory, "available_bytes": available},
    }
    return estimate.model_copy(
        update={
            "sections": sections,
            "peak_bytes": (estimate.peak_bytes or 0) + sum(memory.values()),
            "refusals": weights_refusals(memory, available, device),
        }
    )
