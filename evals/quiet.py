"""lm-eval and its libraries without the network, without progress bars of their own, and without a word.

They read the environment when they are imported, so `prepare` comes before `import lm_eval`.
"""

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "true",
    "DISABLE_MULTIPROC": "1",  # lm-eval would fork this process, and its threads, to bootstrap
}


def prepare() -> None:
    """Set what the user has not set."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextmanager
def calm() -> Iterator[None]:
    """lm-eval prints, and warns of what nobody can change; errors stay."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
