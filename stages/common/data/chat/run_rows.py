"""The chats of a run as packed rows in its OUT.run."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from model.artifact.staging import staged_directory
from model.chat.template import TEMPLATE_PATH, read_template
from model.tokenizer import load_tokenizer
from stages.common.config import WeightedPath
from stages.common.data.chat.rows import prepare_chat
from stages.common.data.chat.settings import ChatDataSettings
from stages.common.data.packed_dataset import DATASET_FILE
from stages.common.ranks import is_first, ranks
from stages.common.stage import StageContext


def rows_of_run(
    chats: Sequence[WeightedPath], tokenizer: Path, settings: ChatDataSettings, context: StageContext
) -> Path:
    """The dataset directory: made once, whole or not at all, and there again after an interruption.

    `tokenizer` is a directory with the chat template that is trained. Errors as of `prepare_chat`.
    """
    rows = context.run_dir / "rows"
    team = ranks()
    if is_first() and not (rows / DATASET_FILE).is_file():
        check = partial(context.check_stop, "chats are encoded anew")
        with staged_directory(rows) as staging:
            prepare_chat(chats, tokenizer, settings, staging, context.reporter, check=check)
    if team is not None:
        team.meet()  # the rows are there
    return rows


def keep_template(model: Path, staging: Path) -> None:
    """Write the chat template beside a model that was trained on chats and came without one: it is to be served with it."""
    if not load_tokenizer(model).chat_template:
        (staging / TEMPLATE_PATH.name).write_text(read_template(), encoding="utf-8")
