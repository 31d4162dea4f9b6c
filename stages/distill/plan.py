"""What a distillation will take: the student's training, the teacher beside it or before it, and what is kept of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from model.config import HybridConfig
from model.counting import count_parameters, forward_flops_per_token
from model.loading import read_config
from stages.common.data.chat.estimate import MEASURED, estimate_chats
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.data.sources import resolve_sources
from stages.common.disk import space_at
from stages.common.plan import Plan, PlanValue
from stages.common.preset import preset_shape, preset_warning
from stages.common.sizes import format_bytes
from stages.common.training.batches import TrainingData
from stages.common.training.hardware import available_bytes, resolve_device
from stages.common.training.memory import forward_bytes
from stages.common.training.planning import training_plan, with_passes
from stages.common.training.steps import StepShape
from stages.distill.cache import bytes_per_token
from stages.distill.config import DistillConfig
from stages.distill.data import agreed_shapes, step_shape
from stages.distill.run import teacher_dtype


def plan(config: DistillConfig) -> Plan:
    absent = preset_shape(config.model, config.preset)
    student, teacher = (absent, _teacher_shape(config)) if absent else agreed_shapes(config)
    steps, sources = step_shape(config), [] if absent else _sources(config)
    device = resolve_device(config.device)
    memory = forward_bytes(teacher, config.micro_batch, config.seq_len, teacher_dtype(config, device.type))
    planned = training_plan(
        f"distill {config.teacher} to {config.model}",
        student,
        steps,
        config,
        data={
            name: value for source in sources for name, value in source.section(steps.total_sequences).items()
        },
        warnings=[f"rows of chats are estimated from the first {MEASURED} samples of each source"]
        if config.chats and not absent
        else [],
        beside={} if config.top_k else {f"teacher_{name}": value for name, value in memory.items()},
    )
    # where the data is not counted, every row is taken to be read once
    read = _rows_to_read(sources, steps) * config.seq_len if config.top_k and sources else steps.tokens
    planned = with_passes(planned, {"teacher_flops": read * forward_flops_per_token(teacher, config.seq_len)})
    planned.sections["Teacher"] = _teacher_section(teacher, memory)
    if absent:
        planned.warnings.append(preset_warning(config.model, config.preset, "and its data is not counted"))
    if config.top_k:
        needed, available = sum(memory.values()), available_bytes(device)
        if needed > available:
            planned.refusals.append(
                f"the teacher needs {format_bytes(needed)}, {format_bytes(available)} are there: "
                "pass --teacher-dtype bfloat16 or a smaller --micro-batch, or choose shorter rows"
            )
        _add_cache(planned, config, config.top_k, read)
    return planned


def _teacher_shape(config: DistillConfig) -> HybridConfig:
    return preset_shape(config.teacher, config.teacher_preset) or read_config(config.teacher)


@dataclass(frozen=True)
class _Rows:
    """Of a source: its rows to train on and its held-out ones, and its share of the run's."""

    name: str
    rows: float
    held_out: float
    share: float

    def section(self, total_sequences: int) -> dict[str, PlanValue]:
        return {
            f"{self.name} (share of the rows)": round(self.share, 4),
            f"{self.name} (times read)": round(self.share * total_sequences / self.rows, 2),
        }


def _sources(config: DistillConfig) -> list[_Rows]:
    total = sum(item.weight for item in (*config.data, *config.chats))
    found: list[_Rows] = []
    if config.data:
        data = TrainingData(config.data)
        weight, blend = sum(item.weight for item in config.data) / total, data.phases[-1]
        held_out = len(data.validation_places(0)) / len(blend)
        found += [
            _Rows(name, data.row_counts[name], held_out, share * weight) for name, share in blend.items()
        ]
    if config.chats:
        tokenizer = ChatTokenizer.open(config.model)
        for source in resolve_sources((item.path, item.weight) for item in config.chats):
            rows = max(1.0, estimate_chats(source, tokenizer, config).rows)
            kept_back = config.validation_fraction * rows
            found.append(_Rows(source.name, rows - kept_back, kept_back, source.weight / total))
    return found


def _rows_to_read(sources: list[_Rows], steps: StepShape) -> int:
    """Different rows that the run trains and validates on."""
    return round(
        sum(min(source.rows, source.share * steps.total_sequences) + source.held_out for source in sources)
    )


def _teacher_section(teacher: HybridConfig, memory: Mapping[str, int]) -> dict[str, PlanValue]:
    return {"parameters": count_parameters(teacher).total, "pattern": teacher.pattern, **memory}


def _add_cache(planned: Plan, config: DistillConfig, k: int, tokens: int) -> None:
    """What is kept, at most: of chats only the tokens that the assistant writes are."""
    needed = tokens * bytes_per_token(k)
    planned.sections["Kept logits"] = {
        "tokens": tokens,
        "bytes_per_token": bytes_per_token(k),
        "cache_bytes": needed,
    }
    if config.cache is None:  # in OUT.run
        planned.disk_bytes = needed
        return
    kept = sum(path.stat().st_size for path in config.cache.rglob("*") if path.is_file())
    _, free = space_at(config.cache / "cache")
    planned.sections["Kept logits"] |= {"kept_bytes": kept, "free_bytes": free}
    if needed - kept > free:
        planned.refusals.append(
            f"the teacher's logits take up to {format_bytes(needed)}, {format_bytes(free)} are free: "
            "lower --top-k or --tokens, or give a --cache on another disk"
        )
