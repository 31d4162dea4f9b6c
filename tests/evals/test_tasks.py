"""The shipped tasks, run end to end by lm-eval with a model whose scores are known by construction."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

import evals.tasks
from evals.ruler.samples import TASKS
from evals.tasks import task_manager
from evals.tasks.reader import DATA
from model.errors import ArtifactError, UsageError

NAMES = [
    *("nano2_arc_easy", "nano2_piqa", "nano2_openbookqa", "nano2_lambada", "nano2_wikitext2"),
    *("nano2_gsm8k", "nano2_svamp", "nano2_mathgen"),
]
GRADED = [
    *("nano2_ifeval", "nano2_humaneval", "nano2_humaneval_instruct", "nano2_mbpp", "nano2_mbpp_instruct"),
]


def rows(name: str) -> list[dict[str, Any]]:
    text = (DATA / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.removesuffix("\n").split("\n")]


class KnownLM(LM):
    """Likes short continuations, at one nat a character; takes exactly 2 bits for each byte of a text; greedily
    continues a context of even length as wanted; answers every question that is in `answers`."""

    def __init__(self, answers: dict[str, str]) -> None:
        super().__init__()
        self.answers = answers
        self.requests: list[Instance] = []

    def loglikelihood(self, requests: list[Instance], **_: Any) -> list[tuple[float, bool]]:
        self.requests += requests
        return [
            (-float(len(continuation)), len(context) % 2 == 0)
            for context, continuation in (request.args for request in requests)
        ]

    def loglikelihood_rolling(self, requests: list[Instance], **_: Any) -> list[float]:
        return [-2 * math.log(2) * len(request.args[0].encode()) for request in requests]

    def generate_until(self, requests: list[Instance], **_: Any) -> list[str]:
        self.requests += requests
        return [self.answers.get(request.args[0], "I give up after 3.") for request in requests]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a task went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of tasks and data, elsewhere."""
    for part in ("tasks", "data"):
        shutil.copytree(Path(evals.tasks.__file__).parent.parent / part, tmp_path / part)
    return tmp_path


def load(names: list[str], *include: Path) -> dict[str, Any]:
    return task_manager(include).load(names)["tasks"]


def evaluate(lm: LM, name: str) -> dict[str, float]:
    results = simple_evaluate(model=lm, tasks=[name], task_manager=task_manager(), bootstrap_iters=0)
    return results["results"][name]


@pytest.mark.usefixtures("no_network")
class TestKnownScores:
    @pytest.mark.parametrize("name", ["arc_easy", "piqa", "openbookqa"])
    def test_multiple_choice(self, name: str) -> None:
        lm = KnownLM({})
        scores = evaluate(lm, f"nano2_{name}")
        lengths = [[len(choice) for choice in row["choices"]] for row in rows(name)]
        shortest = [sizes.index(min(sizes)) for sizes in lengths]
        # Normalised by its length without the space before it, the longest continuation is the likeliest.
        longest = [sizes.index(max(sizes)) for sizes in lengths]
        gold = [row["gold"] for row in rows(name)]
        assert scores["acc,none"] == mean(a == b for a, b in zip(shortest, gold, strict=True))
        assert scores["acc_norm,none"] == mean(a == b for a, b in zip(longest, gold, strict=True))
        assert scores["sample_len"] == len(gold) == 200
        assert all(request.args[1].startswith(" ") for request in lm.requests)

    def test_lambada(self) -> None:
        scores = evaluate(KnownLM({}), "nano2_lambada")
        data = rows("lambada")
        assert scores["acc,none"] == mean(len(row["context"]) % 2 == 0 for row in data)
        nats = mean(len(" " + row["continuation"]) for row in data)
        assert scores["perplexity,none"] == pytest.approx(math.exp(nats))

    def test_wikitext(self) -> None:
        scores = evaluate(KnownLM({}), "nano2_wikitext2")
        assert scores["bits_per_byte,none"] == pytest.approx(2.0)
        assert scores["byte_perplexity,none"] == pytest.approx(4.0)

    @pytest.mark.parametrize("name", ["gsm8k", "svamp"])
    def test_questions(self, name: str) -> None:
        """Every third is answered, in several ways that all count; the others give a wrong number."""
        forms = ["So it is {}.", "2 + 2 is 4.\nThe answer: ${}.00", "5-{}", "{}"]
        asked = rows(name)[::3]
        answers = {
            f"Question: {row['question']}\nAnswer:": forms[i % len(forms)].format(row["final_answer"])
            for i, row in enumerate(asked)
        }
        lm = KnownLM(answers)
        scores = evaluate(lm, f"nano2_{name}")
        lucky = [row for row in rows(name) if row not in asked and row["final_answer"] == "3"]
        assert scores["exact_match,last_number"] == pytest.approx((len(asked) + len(lucky)) / len(rows(name)))
        assert all(request.args[1]["until"] == ["Question:"] for request in lm.requests)
        assert not any(
            name in request.args[1] for request in lm.requests for name in ("do_sample", "temperature")
        )

    def test_gold_answers_of_gsm8k_score_with_their_solutions(self) -> None:
        data = rows("gsm8k")
        lm = KnownLM({f"Question: {row['question']}\nAnswer:": row["final_answer"] for row in data})
        assert evaluate(lm, "nano2_gsm8k")["exact_match,last_number"] == 1.0


def mean(values: Any) -> float:
    values = list(values)
    return sum(values) / len(values)


class TestLoading:
    def test_the_manager_knows_these_tasks_and_no_others(self) -> None:
        manager = task_manager()
        assert sorted(manager.all_subtasks) == sorted(
            [*NAMES, *GRADED, *(f"nano2_ruler_{task}" for task in TASKS)]
        )
        assert sorted(load(["nano2_base", "nano2_math"])) == sorted(NAMES)
        assert sorted(load(["nano2_code", "nano2_instruct"])) == sorted(GRADED)

    def test_works_from_any_working_directory(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        assert len(load(["nano2_piqa"])["nano2_piqa"].eval_docs) == 200

    def test_lm_eval_alone_can_load_them(self) -> None:
        """As `lm_eval --include_path evals/tasks` does."""
        tasks = TaskManager(include_path=str(evals.tasks.TASKS), include_defaults=False)
        names = sorted([*NAMES, *GRADED])
        assert sorted(tasks.load(names)["tasks"]) == names

    def test_nothing_is_cached(self, copy: Path) -> None:
        """A file changed in place, with its size and time as before, gives its new rows."""
        task_file, data_file = str(copy / "tasks" / "nano2_piqa.yaml"), copy / "data" / "piqa.jsonl"

        def first() -> str:
            return load([task_file])["nano2_piqa"].eval_docs[0]["query"]

        old, stat, text = first(), data_file.stat(), data_file.read_text()
        data_file.write_text(text.replace(old, old.swapcase(), 1))
        os.utime(data_file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert data_file.stat().st_size == stat.st_size
        assert first() == old.swapcase()

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            (lambda data: data[:-20], "line 200 is no JSON"),
            (lambda _: b"", "line 1 is no JSON"),
            (lambda data: b"\xff" + data, "cannot be read"),
            (lambda data: data + b'{"id": 1}\n', "line 201 has not the keys"),
            (lambda data: b"[]\n" + data, "line 1 has not the keys"),
            (None, "cannot be read"),
        ],
    )
    def test_damaged_data_is_refused(self, copy: Path, damage: Any, words: str) -> None:
        file = copy / "data" / "piqa.jsonl"
        data = file.read_bytes()
        file.unlink()
        if damage:
            file.write_bytes(damage(data))
        with pytest.raises(ArtifactError, match=words) as caught:
            load([str(copy / "tasks" / "nano2_piqa.yaml")])
        assert caught.value.where == str(file)

    def test_a_directory_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(UsageError, match="no such directory"):
            task_manager([Path("/nowhere")])

    def test_tasks_of_the_user_come_beside_ours(self, copy: Path) -> None:
        own = copy / "own"
        own.mkdir()
        text = (copy / "tasks" / "nano2_piqa.yaml").read_text()
        (own / "mine.yaml").write_text(
            text.replace("task: nano2_piqa", "task: mine").replace("reader", "rows")
        )
        shutil.copy(copy / "tasks" / "reader.py", own / "rows.py")
        assert sorted(load(["mine", "nano2_svamp"], own)) == ["mine", "nano2_svamp"]

    def test_importing_the_package_imports_no_lm_eval(self) -> None:
        code = "import sys, evals.tasks; sys.exit(any(m in sys.modules for m in ('lm_eval', 'torch', 'datasets')))"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_samples_are_small_and_their_licences_are_told() -> None:
    notice = (DATA / "NOTICE.md").read_text()
    files = sorted(DATA.glob("*.jsonl"))
    assert len(files) == 12
    for file in files:
        assert file.stat().st_size < 150_000
        assert f"| {file.name} | {len(rows(file.stem))} |" in notice
