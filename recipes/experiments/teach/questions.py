"""The pairs of `nano2 data longqa` as questions with choices: the answers to other questions of the same document.

All choices stand in the document, so only looking up what is asked tells them apart.
"""

import json
import random
from pathlib import Path
from typing import Any

import datasets

CHOICES = 4
QUESTIONS_OF_A_DOCUMENT = 4
DOCUMENTS = Path("artifacts/experiments/teach/held-out-questions/documents.jsonl")


def read_questions(**_metadata: Any) -> dict[str, datasets.Dataset]:
    """Rows with `document`, `question`, `choices` and the place of the right one, `gold`."""
    rows = []
    for line in DOCUMENTS.read_text(encoding="utf-8").splitlines():
        document = json.loads(line)
        pairs = document["pairs"]
        for number, pair in enumerate(pairs[:QUESTIONS_OF_A_DOCUMENT]):
            others = {other["answer"] for other in pairs if other["kind"] == pair["kind"]} - {pair["answer"]}
            if not others:
                continue
            dice = random.Random(f"{document['place']} {document['piece']} {number}")
            choices = [pair["answer"], *dice.sample(sorted(others), min(CHOICES - 1, len(others)))]
            dice.shuffle(choices)
            rows.append(
                {
                    "document": document["text"][: document["document_characters"]],
                    "question": pair["question"],
                    "kind": pair["kind"],
                    "choices": choices,
                    "gold": choices.index(pair["answer"]),
                    "chance": 1 / len(choices),
                }
            )
    return {"test": datasets.Dataset.from_list(rows)}
