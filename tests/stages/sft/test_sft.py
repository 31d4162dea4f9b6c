import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.chat_lines import ChatSample
from model import load
from model.artifact.hashing import content_hash
from model.chat.special_tokens import END_OF_TURN
from model.chat.template import encode, read_template
from model.errors import ArtifactError, InterruptedRunError, Nano2Error, PlanRefusedError, UsageError
from model.inference.generation import Generator, Request
from model.loading import save
from model.tokenizer import load_tokenizer
from stages.common.data.chat import rows
from stages.common.harness import run_stage
from stages.common.reporter import QuietReporter
from stages.common.stage import StageContext, StageOutcome, StopFlag
from stages.common.training.loop import TrainingLoop
from stages.sft.epochs import blend_of_epoch
from stages.sft.plan import plan
from stages.sft.stage import STAGE
from tests.model.miniatures import miniature, randomized
from tests.ranks import run_ranks
from tests.stages.common.data.helpers import WORDS

Settings = dict[str, Any]
ANSWERS = {word: WORDS[(index * 7 + 3) % len(WORDS)] for index, word in enumerate(dict.fromkeys(WORDS))}


def write(path: Path, samples: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return path


def question(word: str, *, thinking: bool = False) -> dict[str, Any]:
    answer = {"role": "assistant", "content": ANSWERS[word]}
    if thinking:
        answer["reasoning_content"] = f"After {word} comes {ANSWERS[word]}."
    return {"messages": [{"role": "user", "content": f"What follows {word}?"}, answer]}


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    return write(tmp_path / "chats.jsonl", [question(word, thinking=True) for word in ANSWERS])


@pytest.fixture
def settings(model: Path, chats: Path) -> Settings:
    return {
        "model": str(model),
        "data": [str(chats)],
        "seq_len": 128,
        "batch_tokens": 512,
        "micro_batch": 2,
        "learning_rate": 3e-3,
        "strip_traces": 0,
        "truncate_traces": 0,
        "validation_fraction": 0,
        "log_every": 1,
        "tensorboard": False,
        "device": "cpu",
    }


def sft(settings: Settings, out: Path, reporter: QuietReporter | None = None) -> StageOutcome:
    config = STAGE.config.model_validate(settings)
    return run_stage(STAGE, config, out=out, reporter=reporter or QuietReporter(), command=["nano2", "sft"])


def logged(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def test_two_ranks_train_on_the_rows_of_the_first(settings: Settings, tmp_path: Path) -> None:
    sft(settings, tmp_path / "alone")
    outcomes = run_ranks(2, sft, settings, tmp_path / "shared")
    for line, expected in zip(logged(tmp_path / "shared"), logged(tmp_path / "alone"), strict=True):
        assert line["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    assert outcomes[0].result.metrics["trained_tokens"] == outcomes[1].result.metrics["trained_tokens"]
    assert not (tmp_path / "shared.run").exists()


def test_the_model_learns_to_answer_and_to_stop(settings: Settings, model: Path, tmp_path: Path) -> None:
    write(Path(settings["data"][0]), [question(word) for word in ANSWERS])
    sft(settings | {"epochs": 60, "learning_rate": 1e-2}, tmp_path / "tuned")
    lm, tokenizer = load(tmp_path / "tuned"), load_tokenizer(tmp_path / "tuned")
    stop = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    requests = [
        Request(
            encode(
                tokenizer,
                [{"role": "user", "content": f"What follows {word}?"}],
                thinking=False,
                add_generation_prompt=True,
            ).ids,
            max_tokens=20,
            stop_ids=frozenset({stop}),
        )
        for word in ANSWERS
    ]
    completions = Generator(lm, tokenizer).run(requests)
    right = [c.text.strip() == answer for c, answer in zip(completions, ANSWERS.values(), strict=True)]
    stopped = [c.token_ids[-1] == stop for c in completions]
    assert sum(right) > 0.9 * len(right)
    assert all(stopped)


def test_the_loss_is_on_what_the_assistant_writes(settings: Settings, tmp_path: Path) -> None:
    metrics = sft(settings, tmp_path / "tuned").result.metrics
    tokenizer = load_tokenizer(tmp_path / "tuned")
    masks = [encode(tokenizer, question(word, thinking=True)["messages"]).assistant_mask for word in ANSWERS]
    assert metrics["documents"] == len(ANSWERS)
    assert metrics["trained_tokens"] == sum(map(sum, masks))


def test_epochs_read_every_row_as_often_as_its_weight_says(settings: Settings, tmp_path: Path) -> None:
    write(tmp_path / "other.jsonl", [question(word) for word in list(ANSWERS)[:20]])
    reporter = QuietReporter()
    settings |= {"data": [f"{settings['data'][0]}:1", f"{tmp_path / 'other.jsonl'}:3"], "epochs": 4}
    sft(settings, tmp_path / "tuned", reporter)
    read = {m.split(":")[0]: float(m.split()[-2]) for m in reporter.messages if " read " in m}
    assert read["source chats"] == pytest.approx(4, abs=0.3)
    assert read["source other"] == pytest.approx(12, abs=1.2)
    assert blend_of_epoch({"a": 10, "b": 4}, {"a": 1.0, "b": 0.5}) == {"a": 10.0, "b": 2.0}


def test_packing_does_not_change_the_loss(settings: Settings, tmp_path: Path) -> None:
    """One step over all samples, packed and one a row: the same mean loss and the same next weights."""
    settings |= {"micro_batch": 1, "warmup_fraction": 0, "decay_fraction": 0}
    tuned = {}
    for packing in (True, False):
        count = sft(settings | {"packing": packing}, tmp_path / f"count-{packing}").result.metrics["rows"]
        out = tmp_path / f"one-step-{packing}"
        sft(settings | {"packing": packing, "batch_tokens": 128 * int(count)}, out)
        [line] = logged(out)
        tuned[packing] = line["loss"], load(out)
    assert tuned[True][0] == pytest.approx(tuned[False][0], rel=1e-5)
    for mine, theirs in zip(tuned[True][1].parameters(), tuned[False][1].parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=2e-4)


def test_validation_is_held_out_and_logged(settings: Settings, tmp_path: Path) -> None:
    outcome = sft(settings | {"validation_fraction": 0.3}, tmp_path / "tuned")
    assert 0 < outcome.result.metrics["validation_loss"] < 20


def test_an_interrupted_run_continues_to_the_same_weights(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings |= {"epochs": 4}
    sft(settings, tmp_path / "whole")
    step = TrainingLoop._step

    def stop_after_two(self: TrainingLoop, *arguments: Any) -> bool:
        if self.counters.step == 2:
            self.context.stop.signal_name = "SIGINT"
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", stop_after_two)
        with pytest.raises(InterruptedRunError):
            sft(settings, tmp_path / "parts")
    assert (tmp_path / "parts.run/rows/dataset.json").is_file()
    sft(settings, tmp_path / "parts")
    assert content_hash(tmp_path / "parts") == content_hash(tmp_path / "whole")
    assert not (tmp_path / "parts.run").exists()


def test_an_interruption_is_heeded_while_chats_are_encoded(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = rows.read_chat

    def read_and_stop(path: Path) -> Iterator[ChatSample]:
        for number, sample in enumerate(read(path)):
            if number == 3:
                flags[0].signal_name = "SIGINT"
            yield sample

    flags: list[StopFlag] = []
    check = StageContext.check_stop

    def remember(self: StageContext, what: str) -> None:
        flags[:] = [self.stop]
        check(self, what)

    with monkeypatch.context() as patch:
        patch.setattr(StageContext, "check_stop", remember)
        patch.setattr(rows, "read_chat", read_and_stop)
        with pytest.raises(InterruptedRunError, match="chats are encoded anew"):
            sft(settings, tmp_path / "tuned")
    assert not (tmp_path / "tuned.run").exists()
    sft(settings, tmp_path / "tuned")


def test_training_begins_with_the_models_weights(settings: Settings, model: Path, tmp_path: Path) -> None:
    sft(settings | {"learning_rate": 1e-12, "weight_decay": 0}, tmp_path / "same")
    for mine, theirs in zip(load(model).parameters(), load(tmp_path / "same").parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("template", [None, ""])
def test_a_template_that_stood_in_for_none_is_written(
    settings: Settings, model: Path, tmp_path: Path, template: str | None
) -> None:
    shutil.copytree(model, tmp_path / "bare")
    (tmp_path / "bare" / "chat_template.jinja").unlink()
    if template is not None:
        (tmp_path / "bare" / "chat_template.jinja").write_text(template)
    sft(settings | {"model": str(tmp_path / "bare")}, tmp_path / "tuned")
    assert load_tokenizer(tmp_path / "tuned").chat_template == read_template()


def _broken_line(folder: Path, settings: Settings) -> None:
    path = Path(settings["data"][0])
    lines = path.read_text().splitlines()
    lines[4] = lines[4].replace('"role": "user"', '"role": "usr"')
    path.write_text("\n".join(lines))


def _all_ones_template(folder: Path, settings: Settings) -> None:
    _edit_template(
        folder,
        settings,
        lambda t: (
            "{% generation %}"
            + t.replace("{% generation %}", "").replace("{% endgeneration %}", "")
            + "{% endgeneration %}"
        ),
    )


def _no_markers(folder: Path, settings: Settings) -> None:
    _edit_template(
        folder, settings, lambda t: t.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    )


def _edit_template(folder: Path, settings: Settings, edit: Callable[[str], str]) -> None:
    shutil.copytree(settings["model"], folder / "model")
    settings["model"] = str(folder / "model")
    path = folder / "model" / "chat_template.jinja"
    path.write_text(edit(path.read_text().replace("{%-", "{%").replace("-%}", "%}")))


def _invalid_template(folder: Path, settings: Settings) -> None:
    _edit_template(folder, settings, lambda template: template + "{% if %}")


def _tokenizer_too_large(folder: Path, settings: Settings) -> None:
    shutil.copytree(settings["model"], folder / "model")
    save(randomized(miniature("M*-", vocab_size=384)), folder / "model")
    settings["model"] = str(folder / "model")


def _everything_too_long(folder: Path, settings: Settings) -> None:
    settings |= {"seq_len": 16, "batch_tokens": 32}


def _not_chat(folder: Path, settings: Settings) -> None:
    settings |= {"data": [str(Path(settings["model"]) / "tokenizer.json")]}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_broken_line, r"line 5.*role"),
        (_all_ones_template, "mask of all ones|marks"),
        (_no_markers, "no {% generation %} markers"),
        (_invalid_template, r"chat_template\.jinja: the chat template is no valid Jinja"),
        (_tokenizer_too_large, "the tokenizer has 400 tokens, the embedding 384 rows"),
        (_everything_too_long, "is left to train on"),
        (_not_chat, "no kind of text file"),
    ],
)
def test_what_must_not_be_trained_is_refused_and_leaves_nothing(
    settings: Settings, tmp_path: Path, damage: Callable[[Path, Settings], None], message: str
) -> None:
    damage(tmp_path, settings)
    with pytest.raises(ArtifactError, match=message):
        sft(settings, tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()
    assert not (tmp_path / "tuned.run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_tokens": 500}, "whole number of micro-batches"),
        ({"warmup_fraction": 0.5, "decay_fraction": 0.9}, "more than 1"),
        ({"final_learning_rate": 1.0}, "above learning_rate"),
        ({"truncate_from": 9, "truncate_to": 3}, "swap them"),
        ({"epochs": 1e300}, "more tokens than can be counted"),
        ({"seed": 2**63}, "seed"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    settings: Settings, tmp_path: Path, change: Settings, message: str
) -> None:
    with pytest.raises((UsageError, ValueError), match=message) as caught:
        sft(settings | change, tmp_path / "tuned")
    assert isinstance(caught.value, Nano2Error | ValueError)


def test_a_step_whose_rows_no_machine_could_hold_is_refused(settings: Settings, tmp_path: Path) -> None:
    rows = settings["seq_len"]
    with pytest.raises(PlanRefusedError, match=r"the rows of a step take .* lower batch_tokens"):
        sft(settings | {"batch_tokens": rows << 40}, tmp_path / "tuned")
    assert not (tmp_path / "tuned.run").exists()


def test_the_plan_estimates_the_tokens_of_the_run(settings: Settings, tmp_path: Path) -> None:
    settings |= {"epochs": 5}
    estimate = plan(STAGE.config.model_validate(settings))
    outcome = sft(settings, tmp_path / "tuned")
    assert estimate.sections["Work"]["tokens"] == pytest.approx(outcome.result.metrics["tokens"], rel=0.2)
