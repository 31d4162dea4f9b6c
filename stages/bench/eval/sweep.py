"""What is asked and how: requests by kind, the settings of each side, full and quick. No torch."""

from dataclasses import dataclass
from typing import Literal

Side = Literal["nano2", "hf"]
SIDES: tuple[Side, ...] = ("nano2", "hf")

Kind = Literal["multiple_choice", "rolling", "generate"]
KINDS: tuple[Kind, ...] = ("multiple_choice", "rolling", "generate")

METHODS: dict[Kind, str] = {
    "multiple_choice": "loglikelihood",
    "rolling": "loglikelihood_rolling",
    "generate": "generate_until",
}
"""The method of an lm-eval model that answers each kind."""

PRESET = "mini-3m"
REFERENCE = "float32"
"""The precision in which the two sides must agree."""


@dataclass(frozen=True)
class Setting:
    """One way to answer requests. `batch`: hf's batch size; of nano2 the texts that are generated at a time."""

    side: Side
    dtype: str
    batch: int


@dataclass(frozen=True)
class Mix:
    """The requests and the plan of a run.

    documents: how many of each task, by kind. new_tokens: to generate for a request. batches: hf's batch sizes, tried from
    the largest down. rows: nano2's, of which the first also answers the kinds that know none. dtypes: precisions to try, the
    reference first. rounds: how often both sides' best settings in each precision take turns.
    """

    documents: dict[Kind, dict[str, int]]
    new_tokens: int
    batches: tuple[int, ...]
    rows: tuple[int, ...]
    dtypes: tuple[str, ...]
    rounds: int


FULL = Mix(
    documents={
        "multiple_choice": {
            "nano2_arc_easy": 50,
            "nano2_openbookqa": 50,
            "nano2_piqa": 50,
            "nano2_lambada": 50,
        },
        "rolling": {"nano2_wikitext2": 6},
        "generate": {"nano2_gsm8k": 40, "nano2_svamp": 40},
    },
    new_tokens=64,
    batches=(128, 64, 32, 16, 8, 4, 2, 1),
    rows=(32, 128),
    dtypes=(REFERENCE, "bfloat16"),
    rounds=4,
)
QUICK = Mix(
    documents={
        "multiple_choice": {"nano2_arc_easy": 8, "nano2_piqa": 8},
        "rolling": {"nano2_wikitext2": 1},
        "generate": {"nano2_svamp": 8},
    },
    new_tokens=16,
    batches=(16,),
    rows=(32,),
    dtypes=(REFERENCE,),
    rounds=1,
)
WORSE = 1.25
"""A kind's sweep ends at the first batch size that takes so many times as long as the best one."""
