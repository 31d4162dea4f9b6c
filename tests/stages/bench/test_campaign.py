"""The order of the measurements, the choice of the best, and the refusal to compare different models."""

from dataclasses import replace
from typing import Any

import pytest

from model.errors import Nano2Error
from stages.bench.cpu import campaign as campaign_module
from stages.bench.cpu.campaign import (
    Campaign,
    TrainRecord,
    check_agreement,
    count_measurements,
    run_campaign,
    start_campaign,
)
from stages.bench.cpu.measure import DecodeMeasurement, TrainMeasurement
from stages.bench.cpu.sweep import FULL, QUICK, DecodeSetting, Sweep, TrainSetting
from stages.common.reporter import QuietProgressBar

Setting = TrainSetting | DecodeSetting


class FakeMachine:
    """Answers in place of the processes: batch 2 is the fastest, eager attention beats sdpa, bfloat16 float32."""

    def __init__(self) -> None:
        self.asked: list[Setting] = []

    def run_isolated(self, function: Any, *arguments: Any) -> Any:
        setting = arguments[0]
        if isinstance(setting, str):
            return {"torch.mm": 1e11, "linear": 2e11}
        self.asked.append(setting)
        if isinstance(setting, DecodeSetting):
            return DecodeMeasurement([0.1 if setting.side == "nano2" else 0.4] * 2, [1, 2, 3])
        seconds = setting.tokens / 1000 * (1.0 if setting.batch == 2 else 1.5)
        seconds *= 2 if setting.side == "transformers" else 1
        seconds *= 0.9 if setting.attention == "eager" else 1
        seconds *= 0.5 if setting.precision == "bfloat16" else 1
        return TrainMeasurement([seconds] * arguments[1], setting.tokens * 1000, 8.3, 1.0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    machine = FakeMachine()
    monkeypatch.setattr(campaign_module, "run_isolated", machine.run_isolated)
    return machine


def whole_campaign(sweep: Sweep) -> Campaign:
    campaign = start_campaign(sweep, 2, QuietProgressBar())
    run_campaign(campaign, sweep, 2, QuietProgressBar())
    return campaign


@pytest.mark.parametrize("sweep", [FULL, QUICK, replace(FULL, train_precisions=("float32",))])
def test_the_progress_bars_end_full(machine: FakeMachine, sweep: Sweep) -> None:
    bar = QuietProgressBar()
    campaign = start_campaign(sweep, 2, bar)
    assert bar.done == len(sweep.precisions)
    bar = QuietProgressBar()
    run_campaign(campaign, sweep, 2, bar)
    assert bar.done == count_measurements(sweep) == len(machine.asked)


def test_training_keeps_to_its_precisions_and_decoding_tries_all(machine: FakeMachine) -> None:
    campaign = whole_campaign(replace(FULL, train_precisions=("float32",)))
    assert {setting.precision for setting in campaign.training} == {"float32"}
    assert {setting.precision for setting in campaign.decoding} == {"float32", "bfloat16"}


def test_the_best_setting_of_each_side_is_measured_again_in_turns(machine: FakeMachine) -> None:
    campaign = whole_campaign(FULL)
    best = campaign.best_training("nano2", 512)
    assert (best.setting.batch, best.setting.precision) == (2, "bfloat16")
    assert len(best.seconds) == FULL.steps * (1 + FULL.rounds)
    assert len(campaign.training[replace(best.setting, batch=1)].seconds) == FULL.steps
    last_round = [setting.side for setting in machine.asked[-4:]]
    assert last_round == ["nano2", "transformers"] * 2


def test_the_best_can_be_asked_for_within_a_precision(machine: FakeMachine) -> None:
    campaign = whole_campaign(FULL)
    assert campaign.best_training("nano2", 512, "float32").setting.precision == "float32"
    assert campaign.best_training("transformers", 2048).setting.precision == "bfloat16"
    assert campaign.matmul_rate("float32") == 2e11


def record(side: Any, loss: float, norm: float = 1.0, precision: str = "float32") -> TrainRecord:
    return TrainRecord(TrainSetting(side, 512, 4, precision, "sdpa"), [1.0], 1, loss, norm)


@pytest.mark.parametrize(
    ("theirs", "agrees"),
    [
        (record("transformers", 8.30005), True),
        (record("transformers", 8.3002), False),
        (record("transformers", 8.3, norm=1.01), False),
        (record("transformers", float("nan")), False),
    ],
)
def test_different_models_are_not_compared(theirs: TrainRecord, agrees: bool) -> None:
    ours = record("nano2", 8.3)
    campaign = Campaign({ours.setting: ours, theirs.setting: theirs}, {}, {})
    if agrees:
        check_agreement(campaign)
    else:
        with pytest.raises(Nano2Error, match="differ on the same weights"):
            check_agreement(campaign)
