"""The whole chain at toy size: killed again and again, run twice, replayed, told."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.common.chain.artifacts import Chain
from stages.common.chain.figures import MEASURES, write_demo_result
from tests.stages.common.chain.toy import ROOT, ToyDemo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

KILLS = 25
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ToyDemo:
    """The chain, not disturbed."""
    demo = ToyDemo(tmp_path_factory.mktemp("whole"))
    demo.run()
    return demo


def test_a_second_run_executes_nothing(whole: ToyDemo) -> None:
    assert "Nothing to be done" in whole.run()


def test_killed_at_random_moments_it_ends_with_the_same_content(whole: ToyDemo, tmp_path: Path) -> None:
    demo, draw = ToyDemo(tmp_path), random.Random(3)
    kills_with_work_begun = 0
    for _ in range(KILLS):
        process = demo.make()
        try:
            process.wait(draw.uniform(1, 20))
            break
        except subprocess.TimeoutExpired:
            kills_with_work_begun += any(demo.artifacts.glob("*.run"))
            os.killpg(process.pid, draw.choice(SIGNALS))
            process.communicate()
            time.sleep(0.1)
    assert kills_with_work_begun >= 8, "too few kills came in the middle of a stage to prove anything"
    demo.run()
    mine, theirs = demo.hashes(), whole.hashes()
    differing = [name for name in theirs if mine[name] != theirs[name]]
    assert differing == []
    assert list(demo.artifacts.glob("*.run")) == []
    assert list(demo.artifacts.glob("*.tmp*")) == []


def test_the_last_artifact_is_replayed_to_the_same_content(whole: ToyDemo, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nano2cli", "replay", str(whole.artifacts / "merged"), "--run"]
    done = subprocess.run(
        [*command, "--into", str(tmp_path / "again")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "have the recorded content" in done.stdout


def test_every_measure_of_the_demo_is_there(whole: ToyDemo, tmp_path: Path) -> None:
    result = write_demo_result(Chain(whole.artifacts), tmp_path / "demo.json")
    assert {
        f"{measure.name}_{side}" for measure in MEASURES for side in ("before", "after")
    } <= result.metrics.keys()
    assert {row["artifact"] for row in result.table("stages")} == whole.hashes().keys()


def test_the_report_stands_by_itself(whole: ToyDemo) -> None:
    page = (whole.folder / "report.html").read_text()
    assert page.count("<svg") >= 5
    assert not {"<script", "<link", "src=", "url(http"} & {
        part for part in ("<script", "<link", "src=") if part in page
    }
    for name in whole.hashes():
        assert name in page
