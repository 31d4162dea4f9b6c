"""The metrics by hand, from a campaign whose numbers are known."""

import pytest

from model.config import HybridConfig
from model.counting import training_flops_per_token
from stages.bench.cpu.campaign import Campaign, DecodeRecord, TrainRecord
from stages.bench.cpu.summary import summarize
from stages.bench.cpu.sweep import PRESET, DecodeSetting, Side, TrainSetting
from stages.common.results import ResultFile


def train(side: Side, length: int, batch: int, precision: str, tok_per_s: float, peak: int) -> TrainRecord:
    setting = TrainSetting(side, length, batch, precision, "sdpa")
    return TrainRecord(setting, [setting.tokens / tok_per_s] * 3, peak, 8.3, 1.0)


def decode(side: Side, precision: str, tok_per_s: float, tokens: list[int]) -> DecodeRecord:
    return DecodeRecord(DecodeSetting(side, precision, "generate"), [len(tokens) / tok_per_s] * 2, tokens)


@pytest.fixture
def campaign() -> Campaign:
    training = [
        train("nano2", 512, 2, "float32", 3000, 40),
        train("nano2", 512, 4, "float32", 2500, 80),
        train("nano2", 512, 4, "bfloat16", 4000, 60),
        train("transformers", 512, 2, "float32", 1000, 120),
        train("transformers", 512, 4, "float32", 1600, 200),
        train("transformers", 512, 4, "bfloat16", 1500, 190),
        train("nano2", 2048, 1, "float32", 2000, 50),
        train("nano2", 2048, 1, "bfloat16", 1900, 60),
        train("transformers", 2048, 1, "float32", 900, 99),
        train("transformers", 2048, 1, "bfloat16", 1000, 100),
    ]
    decoding = [
        decode("nano2", "float32", 400, [1, 2, 3, 4]),
        decode("nano2", "bfloat16", 300, [1, 2, 3, 4]),
        decode("transformers", "float32", 100, [1, 2, 3, 5]),
        decode("transformers", "bfloat16", 125, [9, 9, 9, 9]),
    ]
    return Campaign(
        {record.setting: record for record in training},
        {record.setting: record for record in decoding},
        {"float32": {"torch.mm": 1e11, "linear": 2e11}, "bfloat16": {"torch.mm": 5e11}},
    )


def test_each_side_counts_at_its_own_best(campaign: Campaign) -> None:
    metrics, _ = summarize(campaign, threads=2)
    assert metrics["train_ratio_512"] == pytest.approx(4000 / 1600)
    assert metrics["train_ratio_512_float32"] == pytest.approx(3000 / 1600)
    assert metrics["train_ratio_512_bfloat16"] == pytest.approx(4000 / 1500)
    assert metrics["train_ratio_2048"] == pytest.approx(2000 / 1000)
    assert metrics["decode_ratio"] == pytest.approx(400 / 125)
    assert metrics["decode_ratio_float32"] == pytest.approx(4)


def test_memory_is_compared_at_their_best_batch_and_precision(campaign: Campaign) -> None:
    metrics, _ = summarize(campaign, threads=2)
    assert metrics["train_memory_ratio_512"] == pytest.approx(80 / 200)
    assert metrics["train_memory_ratio_2048"] == pytest.approx(60 / 100)
    assert metrics["train_memory_ratio"] == pytest.approx(60 / 100)


def test_gemm_share_is_of_the_rate_in_the_precision_used(campaign: Campaign) -> None:
    metrics, _ = summarize(campaign, threads=2)
    config = HybridConfig.preset(PRESET)
    ours_512 = 4000 * training_flops_per_token(config, 512) / 5e11
    ours_2048 = 2000 * training_flops_per_token(config, 2048) / 2e11
    assert metrics["nano2_train_512_gemm_share"] == pytest.approx(ours_512)
    assert metrics["nano2_train_2048_gemm_share"] == pytest.approx(ours_2048)
    assert metrics["gemm_share"] == pytest.approx(min(ours_512, ours_2048))


def test_agreement_of_decoded_tokens_is_the_share_that_is_equal(campaign: Campaign) -> None:
    metrics, _ = summarize(campaign, threads=2)
    assert metrics["decode_agreement"] == pytest.approx(3 / 4)


def test_every_setting_is_a_row_and_one_a_side_and_length_is_the_best(campaign: Campaign) -> None:
    _, rows = summarize(campaign, threads=2)
    training = [row for row in rows if row["table"] == "train"]
    assert len(training) == len(campaign.training)
    best = [(row["side"], row["length"], row["batch"], row["precision"]) for row in training if row["best"]]
    assert best == [
        ("nano2", 512, 4, "bfloat16"),
        ("transformers", 512, 4, "float32"),
        ("nano2", 2048, 1, "float32"),
        ("transformers", 2048, 1, "bfloat16"),
    ]
    assert {row["spread"] for row in training} == {0.0}


def test_the_shape_is_written_down(campaign: Campaign) -> None:
    metrics, rows = summarize(campaign, threads=2)
    shape = {row["field"]: row["value"] for row in rows if row["table"] == "config"}
    assert shape["preset"] == PRESET
    assert {"vocab_size", "hidden_size", "n_groups", "chunk_size", "pattern"} <= set(shape)
    assert 7e6 < metrics["parameters"] < 9e6


def test_the_summary_is_a_result_file(campaign: Campaign) -> None:
    metrics, rows = summarize(campaign, threads=2)
    ResultFile.model_validate(
        {
            "name": "cpu",
            "command": "nano2 bench cpu",
            "device": {"type": "cpu"},
            "commit": None,
            "date": "2026-01-01T00:00:00Z",
            "versions": {},
            "metrics": metrics,
            "rows": rows,
        }
    )
