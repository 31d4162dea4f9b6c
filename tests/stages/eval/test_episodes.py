"""`nano2 eval` of errands at the desk: stopped in the middle and run again, it is the evaluation that was not stopped."""

import json
from pathlib import Path
from typing import Any

from stages.common.reporter import QuietReporter
from tests.evals.episodes.desk import ERRANDS, chat_file, desk_model, line
from tests.forked import Forked
from tests.stages.eval.test_eval import run
from tests.stages.eval.test_interruption import content_hash, wait_for_lines

SETTINGS: dict[str, Any] = {
    "apply_chat_template": True,
    "repeats": 4,
    "batch_rows": 2,
    "gen": {"max_gen_toks": 200, "temperature": 1.0, "max_turns": 12},
}
FLAGS = ["--apply-chat-template", "--repeats", "4", "--batch-rows", "2", "--gen", "max_gen_toks=200"]
FLAGS += ["--gen", "temperature=1.0", "--gen", "max_turns=12"]
EPISODES = 60


def test_killed_and_continued(tokenizer_directory: Path, tmp_path: Path) -> None:
    model = desk_model(tokenizer_directory, tmp_path / "desk", ERRANDS)
    lines = chat_file(tmp_path / "errands.jsonl", *[line(f"Errand {n}", thinking=False) for n in range(15)])
    out, answers = tmp_path / "out", tmp_path / "out.run" / "answers"
    process = Forked("eval", "-m", model, "--tasks", lines, "-o", out, *FLAGS)
    wait_for_lines(answers, 3, process)
    process.kill()
    process.communicate()
    assert not out.exists()
    kept = answers.read_bytes().count(b"\n")
    assert 3 <= kept < EPISODES
    reporter = QuietReporter()
    continued = run(out, reporter, model=model, tasks=str(lines), **SETTINGS)
    assert any(f"{kept} answers are there already" in message for message in reporter.messages)
    whole = run(tmp_path / "whole", model=model, tasks=str(lines), **SETTINGS)
    assert content_hash(out) == content_hash(tmp_path / "whole")
    assert continued.result.metrics == whole.result.metrics
    samples = (out / "samples_errands.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum(len(json.loads(sample)["generations"]) for sample in samples) == EPISODES
