"""What holds for every test: one thread, fixed seeds, no network."""

import os
import random
import sys

import pytest
from hypothesis import settings

# Before anything imports torch or a Hugging Face library; subprocesses inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ[variable] = "1"

settings.register_profile("nano2", derandomize=True, deadline=None, database=None)
settings.load_profile("nano2")


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    random.seed(0)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
