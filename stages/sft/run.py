"""`nano2 sft`: next-token training on what the assistant writes (report, section 3.2)."""

import torch

from model.loading import load
from stages.common.config import WeightedPath
from stages.common.data.chat.run_rows import keep_template, rows_of_run
from stages.common.data.packed_dataset import read_description
from stages.common.data.sources import resolve_sources
from stages.common.stage import StageContext, StageResult
from stages.common.training.batches import TrainingData
from stages.common.training.hardware import resolve_device
from stages.common.training.schedule import warmup_decay
from stages.common.training.session import train_on_rows
from stages.sft.config import SftConfig
from stages.sft.epochs import blend_of_epoch, step_shape


def run(config: SftConfig, context: StageContext) -> StageResult:
    device = resolve_device(config.device)
    context.device = str(device)
    lm = load(config.model, device=device, dtype="float32")

    rows = rows_of_run(config.data, config.model, config, context)
    data = TrainingData((WeightedPath(path=rows),))
    weights = {s.name: s.weight for s in resolve_sources((d.path, d.weight) for d in config.data)}
    blend = blend_of_epoch(data.row_counts, weights)
    steps = step_shape(config, sum(blend.values()))
    order = data.order_of_blend(blend, steps.total_sequences, config.seed)
    torch.manual_seed(config.seed)
    result = train_on_rows(
        lm, data, order, steps, warmup_decay(config, steps.tokens), config, context, tokenizer=config.model
    )
    keep_template(config.model, context.staging)
    sources = read_description(rows).sources.values()
    result.metrics |= {
        "rows": sum(source.rows for source in sources),
        "documents": sum(source.documents for source in sources),
        "trained_tokens": sum(source.trained_tokens or 0 for source in sources),
    }
    return result
