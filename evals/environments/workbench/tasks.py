"""WorkBench's tasks as chat jsonl, split by template.

python -m evals.environments.workbench.tasks        writes data/train.jsonl.gz and data/dev.jsonl.gz anew
"""

import gzip
import json
from hashlib import sha256
from typing import Any

from evals.environments.workbench.state import DATA
from evals.environments.workbench.tools import schemas
from model.text_lines import json_lines

SYSTEM = (
    "You look after Sam's calendar, e-mails, web site figures, tasks and customers. Today is Thursday 2023-11-30, and the "
    "time is 00:00:00. Meetings must not start before 9:00 nor end after 18:00."
)
DEV_SHARE = 0.2

Line = dict[str, Any]


def split_tasks(tasks: list[Line]) -> dict[str, list[Line]]:
    """The lines of train and dev. All tasks of a template are in one of them, and of each category a fifth of the
    templates is in dev; which, a hash of the template says."""
    categories = sorted({task["category"] for task in tasks})
    dev: set[str] = set()
    for category in categories:
        templates = sorted({task["template"] for task in tasks if task["category"] == category}, key=_order)
        dev.update(templates[: max(1, round(DEV_SHARE * len(templates)))])
    lines: dict[str, list[Line]] = {"train": [], "dev": []}
    for task in tasks:
        split = "dev" if task["template"] in dev else "train"
        lines[split].append(chat_line(task, split))
    return lines


def chat_line(task: Line, split: str) -> Line:
    """A task as a line: what the agent is told, the tools of the task's domains, and the grader."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": task["query"]}]
    return {
        "id": f"workbench-{task['id']}",
        "messages": messages,
        "tools": schemas(task["domains"]),
        "grader": {"name": "workbench", "calls": task["answer_calls"]},
        "metadata": {"split": split, **{key: task[key] for key in ("category", "template", "domains")}},
    }


def read_tasks() -> list[Line]:
    """data/tasks.jsonl.gz: id, category, query, domains, template and answer_calls."""
    return [task for task, _ in json_lines(DATA / "tasks.jsonl.gz")]


def _order(template: str) -> str:
    return sha256(template.encode()).hexdigest()


def main() -> None:
    for split, lines in split_tasks(read_tasks()).items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (DATA / f"{split}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
        print(f"{split}.jsonl.gz: {len(lines)} tasks")


if __name__ == "__main__":
    main()
