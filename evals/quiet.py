"""The environment in which lm-eval and its libraries neither use the network nor draw progress bars of their own.

They read it when they are imported, so `prepare` comes before `import lm_eval`.
"""

import os

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
