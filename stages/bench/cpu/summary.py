"""Metrics and tables of a campaign.

tok_per_s: tokens of a batch over the median time of its training steps. spread: of the step times, (90th - 10th percentile)
/ median. train_ratio_T: our tokens per second over theirs at sequence length T, each side at its best batch size, precision
and kernels; train_ratio_T_PRECISION: the same within one precision. train_memory_ratio: our peak memory over theirs at the
batch size and precision that is best for them, the worst of all lengths; peak memory is the largest resident size over what
the process held before the model was built, weights, gradients and optimizer included. decode_ratio: as train_ratio_T, for a
prompt of 64 tokens and the greedy tokens after it, batch 1. gemm_share: FLOPs of our training steps a second
(model/counting.py) over those of the fastest matrix product of the same precision that this run measured, the lowest of all
lengths; transformers_gemm_share: theirs, FLOPs counted alike.
"""

from model.config import HybridConfig
from model.counting import count_parameters, training_flops_per_token
from stages.bench.cpu.campaign import Campaign, TrainRecord
from stages.bench.cpu.sweep import PRESET, SIDES, Side, TrainSetting
from stages.bench.process import spread
from stages.common.results import TABLE, Cell

Metrics = dict[str, float | int]
Row = dict[str, Cell]


def summarize(campaign: Campaign, threads: int) -> tuple[Metrics, list[Row]]:
    """(metrics, rows); the tables are `train`, `decode`, `matmul` and `config`."""
    lengths = sorted({setting.length for setting in campaign.training})
    precisions = list(campaign.matmul)
    trained = {setting.precision for setting in campaign.training}
    metrics: Metrics = {}
    for length in lengths:
        metrics[f"train_ratio_{length}"] = _train_ratio(campaign, length, None)
    metrics["train_memory_ratio"] = max(_memory_ratio(campaign, length) for length in lengths)
    metrics["decode_ratio"] = _decode_ratio(campaign, None)
    metrics["gemm_share"] = min(_gemm_share(campaign, "nano2", length) for length in lengths)
    metrics["transformers_gemm_share"] = min(
        _gemm_share(campaign, "transformers", length) for length in lengths
    )
    for precision in precisions:
        for length in lengths if precision in trained else ():
            metrics[f"train_ratio_{length}_{precision}"] = _train_ratio(campaign, length, precision)
        metrics[f"decode_ratio_{precision}"] = _decode_ratio(campaign, precision)
    for length in lengths:
        metrics[f"train_memory_ratio_{length}"] = _memory_ratio(campaign, length)
        for side in SIDES:
            best = campaign.best_training(side, length)
            metrics[f"{side}_train_{length}_tok_per_s"] = best.tok_per_s
            metrics[f"{side}_train_{length}_peak_bytes"] = best.peak_bytes
            metrics[f"{side}_train_{length}_gemm_share"] = _gemm_share(campaign, side, length)
    for side in SIDES:
        metrics[f"{side}_decode_tok_per_s"] = campaign.best_decoding(side).tok_per_s
    metrics["decode_agreement"] = _decode_agreement(campaign)
    for precision in precisions:
        metrics[f"matmul_{precision}_flop_per_s"] = campaign.matmul_rate(precision)
    metrics["parameters"] = count_parameters(HybridConfig.preset(PRESET)).total
    metrics["threads"] = threads
    return metrics, [
        *_train_rows(campaign),
        *_decode_rows(campaign),
        *_matmul_rows(campaign),
        *_config_rows(),
    ]


def _train_ratio(campaign: Campaign, length: int, precision: str | None) -> float:
    ours, theirs = (campaign.best_training(side, length, precision).tok_per_s for side in SIDES)
    return ours / theirs


def _decode_ratio(campaign: Campaign, precision: str | None) -> float:
    ours, theirs = (campaign.best_decoding(side, precision).tok_per_s for side in SIDES)
    return ours / theirs


def _memory_ratio(campaign: Campaign, length: int) -> float:
    theirs = campaign.best_training("transformers", length)
    ours = campaign.training[
        TrainSetting("nano2", length, theirs.setting.batch, theirs.setting.precision, "sdpa")
    ]
    return ours.peak_bytes / theirs.peak_bytes


def _gemm_share(campaign: Campaign, side: Side, length: int) -> float:
    return _share(campaign, campaign.best_training(side, length))


def _share(campaign: Campaign, record: TrainRecord) -> float:
    flops = training_flops_per_token(HybridConfig.preset(PRESET), record.setting.length)
    return record.tok_per_s * flops / campaign.matmul_rate(record.setting.precision)


def _decode_agreement(campaign: Campaign) -> float:
    """Share of the float32 tokens on which both sides agree."""
    ours, theirs = (campaign.best_decoding(side, "float32").tokens for side in SIDES)
    return sum(mine == other for mine, other in zip(ours, theirs, strict=True)) / len(ours)


def _train_rows(campaign: Campaign) -> list[Row]:
    rows: list[Row] = []
    for setting, record in campaign.training.items():
        rows.append(
            {
                TABLE: "train",
                "side": setting.side,
                "length": setting.length,
                "batch": setting.batch,
                "precision": setting.precision,
                "attention": setting.attention,
                "tok_per_s": round(record.tok_per_s, 1),
                "spread": spread(record.seconds),
                "steps": len(record.seconds),
                "peak_bytes": record.peak_bytes,
                "gemm_share": round(_share(campaign, record), 4),
                "loss": round(record.loss, 6),
                "best": record is campaign.best_training(setting.side, setting.length),
            }
        )
    return rows


def _decode_rows(campaign: Campaign) -> list[Row]:
    return [
        {
            TABLE: "decode",
            "side": setting.side,
            "precision": setting.precision,
            "method": setting.method,
            "tok_per_s": round(record.tok_per_s, 1),
            "spread": spread(record.seconds),
            "runs": len(record.seconds),
            "best": record is campaign.best_decoding(setting.side),
        }
        for setting, record in campaign.decoding.items()
    ]


def _matmul_rows(campaign: Campaign) -> list[Row]:
    return [
        {TABLE: "matmul", "precision": precision, "product": product, "gflop_per_s": round(rate / 1e9, 1)}
        for precision, rates in campaign.matmul.items()
        for product, rate in rates.items()
    ]


def _config_rows() -> list[Row]:
    shape = HybridConfig.preset(PRESET).model_dump(exclude_defaults=True)
    return [
        {TABLE: "config", "field": name, "value": value}
        for name, value in {"preset": PRESET, **shape}.items()
    ]
