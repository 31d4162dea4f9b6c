"""A teacher's logits on disk: made once, used again, refused where they belong to something else or are damaged."""

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from model import load
from model.artifact.hashing import content_hash
from model.errors import ArtifactError, InterruptedRunError, UsageError
from model.loading import save
from model.loss import IGNORED
from model.tokenizer import copy_tokenizer
from stages.common.distillation.loss import forward_kl
from stages.common.reporter import QuietReporter
from stages.common.stage import StageContext
from stages.common.training.batches import Place, TrainingData
from stages.distill import caching
from stages.distill import run as run_module
from stages.distill.cache import SHARD_FILE, Binding, Entry, LogitCache, bytes_per_token
from stages.distill.cached import CachedRows, KeptLogits
from stages.distill.config import DistillConfig
from stages.distill.plan import plan
from tests.stages.distill.conftest import SEQ_LEN, pack, ten_steps
from tests.stages.distill.helpers import Settings, distill, logged

K = 8


@pytest.fixture
def cached(settings: Settings, tmp_path: Path) -> Settings:
    return settings | {"top_k": K, "cache": str(tmp_path / "cache")}


@pytest.fixture(scope="module")
def first(teacher: Path, student: Path, packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that cached its teacher: `out`, and `cache`."""
    folder: Path = tmp_path_factory.mktemp("first")
    settings = ten_steps(teacher, student, packed) | {"top_k": K, "cache": str(folder / "cache")}
    distill(settings, folder / "out")
    return folder


@pytest.fixture
def kept(cached: Settings, first: Path) -> Settings:
    """With the cache of the first run."""
    shutil.copytree(first / "cache", cached["cache"])
    return cached


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows of two micro-batches in each."""
    monkeypatch.setattr(caching, "SHARD_BYTES", 4 * SEQ_LEN * bytes_per_token(K))


def shards(settings: Settings) -> list[Path]:
    return sorted(path for path in Path(settings["cache"]).iterdir() if path.name.isdigit())


def no_teacher(*_: Any) -> Any:
    pytest.fail("the teacher was loaded though all of its logits are kept")


def test_the_second_run_needs_no_teacher(
    kept: Settings, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_teacher", no_teacher)
    reporter = QuietReporter()
    distill(kept, tmp_path / "second", reporter)
    assert any("the teacher's logits of all" in message for message in reporter.messages)
    assert content_hash(first / "out") == content_hash(tmp_path / "second")


def test_a_longer_run_adds_what_lacks(cached: Settings, tmp_path: Path) -> None:
    distill(cached, tmp_path / "short")
    before = {path: path.stat().st_mtime_ns for path in Path(cached["cache"]).rglob(SHARD_FILE)}
    distill(cached | {"tokens": 30 * 4 * SEQ_LEN, "seed": 1}, tmp_path / "long")
    after = {path: path.stat().st_mtime_ns for path in Path(cached["cache"]).rglob(SHARD_FILE)}
    assert len(after) > len(before)
    assert before.items() <= after.items()


def test_without_a_directory_it_is_gone_with_the_run(cached: Settings, tmp_path: Path) -> None:
    distill({**cached, "cache": None}, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    distill(cached, tmp_path / "named")
    assert content_hash(tmp_path / "out") == content_hash(tmp_path / "named")


def open_cache(settings: Settings) -> tuple[DistillConfig, TrainingData, LogitCache]:
    config = DistillConfig.model_validate(settings)
    path = Path(settings["cache"]) / "cache.json"
    data = TrainingData(config.data)
    return config, data, LogitCache(path.parent, Binding.model_validate_json(path.read_text()))


def test_what_is_kept_is_the_teacher_within_half_precision(kept: Settings) -> None:
    """At each token with a label the k likeliest tokens of the teacher; each position sums to one."""
    config, data, cache = open_cache(kept)
    places = data.validation_places(0)[:3]
    batch = CachedRows(data, cache).rows(places)
    teacher = load(config.teacher)
    with torch.no_grad():
        logits = teacher(batch.input_ids_BT, batch.document_ids_BT).logits[batch.labels_BT != IGNORED]
    logp = logits.log_softmax(-1)
    top = batch.top()
    assert len(top.ids_nk) == batch.count
    torch.testing.assert_close(top.logprobs_nk1[:, :-1], logp.gather(1, top.ids_nk), rtol=2**-10, atol=2e-3)
    torch.testing.assert_close(logp.gather(1, top.ids_nk), logp.topk(K).values, rtol=0, atol=1e-5)
    torch.testing.assert_close(top.logprobs_nk1.exp().sum(1), torch.ones(batch.count))


def test_training_on_it_lies_within_its_bound(kept: Settings) -> None:
    """Of a real teacher and student: below the whole divergence, and by no more than the tails make it."""
    config, data, cache = open_cache(kept)
    batch = CachedRows(data, cache).rows(data.validation_places(0)[:4])
    teacher, student = (load(path).requires_grad_(False) for path in (config.teacher, config.model))
    hidden, taught = (
        lm.hidden_states(batch.input_ids_BT, batch.document_ids_BT) for lm in (student, teacher)
    )
    part = KeptLogits(1.0)(student, hidden, batch)
    whole = forward_kl(hidden, student.lm_head.weight, taught, teacher.lm_head.weight, batch.labels_BT)
    assert 0 < float(part.total) < float(whole.total)
    labelled = batch.labels_BT != IGNORED
    logp, logq = (
        lm.lm_head(states[labelled]).double().log_softmax(-1)
        for lm, states in ((teacher, taught), (student, hidden))
    )
    tails = [values.scatter(1, batch.top().ids_nk, -torch.inf) for values in (logp, logq)]
    p, q = (tail.log_softmax(1) for tail in tails)
    within = torch.where(p.isfinite(), p.exp() * (p - q), 0.0).sum(1)
    gap = tails[0].exp().sum(1) * within
    assert float(whole.total - part.total) == pytest.approx(float(gap.sum()), rel=2e-2)


def test_a_token_takes_what_is_said(kept: Settings) -> None:
    _, data, cache = open_cache(kept)
    entry = cache.entry(data.validation_places(0)[0])
    assert entry.ids.nbytes + entry.logprobs.nbytes == len(entry.ids) * bytes_per_token(K)
    assert bytes_per_token(64) == 386


def test_a_step_reads_them_a_micro_batch_at_a_time(kept: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a whole step's at once, which may be millions of tokens."""
    _, data, cache = open_cache(kept)
    read: list[Place] = []
    entry = LogitCache.entry

    def watched(self: LogitCache, place: Place) -> Entry:
        read.append(place)
        return entry(self, place)

    monkeypatch.setattr(LogitCache, "entry", watched)
    places = data.validation_places(0)[:4]
    step = CachedRows(data, cache).rows(places)
    assert not read
    micro = step.rows(2, 4).to(torch.device("cpu"))
    assert len(micro.top().ids_nk) == micro.count
    assert read == places[2:]


@pytest.mark.usefixtures("small_shards")
def test_an_interrupted_pass_goes_on_behind_its_last_shard(
    cached: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distill(cached | {"cache": str(tmp_path / "whole-cache")}, tmp_path / "whole")
    asked = 0
    check = StageContext.check_stop

    def stop_at_the_sixth(self: StageContext, what: str) -> None:
        nonlocal asked
        asked += 1
        if asked == 6:
            self.stop.signal_name = "SIGINT"
        check(self, what)

    with monkeypatch.context() as patch:
        patch.setattr(StageContext, "check_stop", stop_at_the_sixth)
        with pytest.raises(InterruptedRunError, match="the shards of the teacher's logits so far are kept"):
            distill(cached, tmp_path / "out")
    assert len(shards(cached)) == 2
    first = {path: path.stat().st_mtime_ns for path in Path(cached["cache"]).rglob(SHARD_FILE)}
    distill(cached, tmp_path / "out")
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())
    assert content_hash(tmp_path / "out") == content_hash(tmp_path / "whole")


def _another_teacher(folder: Path, settings: Settings) -> None:
    lm = load(settings["teacher"])
    with torch.no_grad():
        lm.lm_head.weight[0, 0] += 1e-3
    (folder / "other").mkdir()
    save(lm, folder / "other")
    copy_tokenizer(Path(settings["teacher"]), folder / "other")
    settings["teacher"] = str(folder / "other")


def _other_data(folder: Path, settings: Settings) -> None:
    (folder / "other").mkdir()
    settings["data"] = [str(pack(folder / "other", Path(settings["model"]), first=500))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_another_teacher, "teacher is sha256:.* there and sha256:.* here"),
        (_other_data, "books is sha256:.* there and sha256:.* here"),
        (lambda _, settings: settings.update(top_k=K + 1), "top_k is 8 there and 9 here"),
        (lambda _, settings: settings.update(temperature=2.0), "temperature is 1.0 there and 2.0 here"),
        (
            lambda _, settings: settings.update(teacher_dtype="bfloat16"),
            "teacher_dtype is float32 there and bfloat16 here",
        ),
    ],
)
def test_the_logits_of_something_else_are_refused(
    kept: Settings, tmp_path: Path, change: Callable[[Path, Settings], None], message: str
) -> None:
    before = content_hash(Path(kept["cache"]))
    change(tmp_path, kept)
    with pytest.raises(UsageError, match=f"keeps the logits of something else: {message}"):
        distill(kept, tmp_path / "second")
    assert not list(tmp_path.glob("second*"))
    assert content_hash(Path(kept["cache"])) == before


def test_a_folder_of_the_users_is_no_cache(cached: Settings, tmp_path: Path) -> None:
    Path(cached["cache"]).mkdir()
    (Path(cached["cache"]) / "thesis.txt").write_text("text")
    with pytest.raises(UsageError, match="is no cache of a teacher's logits"):
        distill(cached, tmp_path / "out")
    assert [path.name for path in Path(cached["cache"]).iterdir()] == ["thesis.txt"]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-200] ^= 4
    path.write_bytes(content)


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("damage", [_truncate, _flip, _remove])
def test_a_damaged_shard_is_named_and_made_anew(
    cached: Settings, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    distill(cached, tmp_path / "whole")
    shard = shards(cached)[3]
    damage(shard / SHARD_FILE)
    with pytest.raises(ArtifactError) as caught:
        distill(cached, tmp_path / "out")
    assert caught.value.where == str(shard)
    assert "remove this directory" in caught.value.remedy
    shutil.rmtree(shard)
    distill(cached, tmp_path / "out")
    assert content_hash(tmp_path / "out") == content_hash(tmp_path / "whole")


def test_a_damaged_description_is_named(kept: Settings, tmp_path: Path) -> None:
    (Path(kept["cache"]) / "cache.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"cache\.json: is damaged"):
        distill(kept, tmp_path / "second")


def test_two_writers_of_one_cache(kept: Settings, tmp_path: Path) -> None:
    with (Path(kept["cache"]) / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        distill(kept | {"learning_rate": 1e-3}, tmp_path / "reader")  # nothing to write
        with pytest.raises(UsageError, match="is being written by another run"):
            distill(kept | {"seed": 5, "tokens": 40 * 4 * SEQ_LEN}, tmp_path / "writer")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small tmpfs")
@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("small_disk", ["40k"], indirect=True)
def test_a_full_disk_keeps_the_whole_shards(
    cached: Settings, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached |= {"cache": str(small_disk / "cache")}
    with monkeypatch.context() as patch:  # the plan would see it coming
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**40))
        with pytest.raises(ArtifactError, match="the disk is full"):
            distill(cached, tmp_path / "out")
    whole = shards(cached)
    assert whole
    assert all((path / SHARD_FILE).is_file() for path in whole)
    assert not (tmp_path / "out").exists()
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    first = whole[0].stat().st_mtime_ns
    distill(cached, tmp_path / "out")
    assert whole[0].stat().st_mtime_ns == first


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small tmpfs")
@pytest.mark.parametrize("small_disk", ["40k"], indirect=True)
def test_the_plan_refuses_a_disk_that_is_too_small(
    cached: Settings, small_disk: Path, tmp_path: Path
) -> None:
    (refusal,) = plan(DistillConfig.model_validate(cached | {"cache": str(small_disk / "cache")})).refusals
    assert "lower --top-k or --tokens" in refusal


def test_the_plan_counts_what_lies_in_the_run_directory(cached: Settings) -> None:
    planned = plan(DistillConfig.model_validate(cached | {"cache": None}))
    assert planned.disk_bytes == planned.sections["Kept logits"]["cache_bytes"]
    assert plan(DistillConfig.model_validate(cached)).disk_bytes is None


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_while_it_caches_and_trains_it_ends_with_the_same_weights(
    cached: Settings, tmp_path: Path
) -> None:
    cached |= {"tokens": 60 * 4 * SEQ_LEN, "save_seconds": 0.05, "top_k": 200, "micro_batch": 1}
    distill(cached | {"cache": str(tmp_path / "whole-cache")}, tmp_path / "whole")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(cached))
    command = [
        sys.executable,
        "-m",
        "nano2cli",
        "distill",
        "--config",
        str(recipe),
        "-o",
        str(tmp_path / "out"),
    ]
    draw, caching_kills, training_kills = random.Random(3), 0, 0
    for _ in range(12):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if Path(cached["cache"]).is_dir() or list((tmp_path).glob("out.run/step-*")):
                break
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.6))
        if process.poll() is None:
            trained = bool(list(tmp_path.glob("out.run/step-*")))
            training_kills, caching_kills = training_kills + trained, caching_kills + (not trained)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert caching_kills + training_kills >= 6
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert content_hash(tmp_path / "out") == content_hash(tmp_path / "whole")
    assert [line["loss"] for line in logged(tmp_path / "out")] == [
        line["loss"] for line in logged(tmp_path / "whole")
    ]
