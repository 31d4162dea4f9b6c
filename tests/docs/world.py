"""A small world in which the commands of the docs run: what they read is there under the names that they use.

What a name stands for follows from where a command uses it: a model for `-m`, text for `data prepare -d`, chats for
`sft -d`. Everything is made by the project's own stages. A command's sizes are replaced by SMALL, whatever they are.
"""

import gzip
import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from model.loading import save
from model.tokenizer import copy_tokenizer
from nano2cli.plan_chain import parse_command
from stages.common.config import StageConfig
from stages.common.harness import run_stage
from stages.common.inputs import find_inputs
from stages.common.reporter import QuietReporter
from stages.common.stage import Stage, load_target
from stages.data.tokenizer.training import save_tokenizer, train_tokenizer
from tests.docs.commands import ROOT, nano2_commands
from tests.model.miniatures import miniature, randomized
from tests.stages.common.data.helpers import WORDS, story, write_jsonl
from tests.stages.data.convert.examples import GOOD as CHATS
from tests.stages.data.convert.test_preferences import FIND, GOOD, SAY, graded

SMALL = {
    "data tokenizer": "vocab_size=400",
    "data prepare": "seq_len=1024 workers!=1",
    "data longqa": "document_tokens=none max_tokens=none min_tokens!=64 chunk_tokens!=64 workers!=1",
    "data synth": "train!=60 dev!=12 test!=12",
    "pretrain": "tokens=2048 batch_tokens=1024 micro_batch=1 warmup_tokens=0",
    "extend-context": "tokens=2048 batch_tokens!=1024 micro_batch=1 learning_rate!=1e-4",
    "sft": "seq_len!=1024 concatenate_tokens=1024 batch_tokens=1024 micro_batch=1 workers!=1",
    "distill": "seq_len!=1024 tokens=2048 batch_tokens=1024 micro_batch=1 workers!=1",
    "dpo": "seq_len!=8192 batch_pairs!=8 micro_batch=1 rounds=1 prompts_per_round=8 samples=4 steps_per_round=1 "
    "max_tokens=16",
    "reward": "seq_len!=1024 batch_pairs!=8 micro_batch=1 epochs=1",
    "grpo": "steps=1 prompts!=2 samples!=2 warmup_steps=0 validation_tokens!=8 seq_len!=2048 max_tokens!=8 micro_batch!=1",
    "prune": "samples!=4 layer_samples=2 layers=4|4..5:1 hidden=40|40..48:8 ffn=48|48..56:8 mamba_heads=4|2..4:2 "
    "keep_mamba=0 keep_mlp=0 memory=1GiB parameters=1M distill_tokens=1024 batch_tokens=1024 micro_batch=1",
    "merge": "limit=2 gen=max_gen_toks=8",
    "eval": "limit!=1 gen!=max_gen_toks=8 repeats=2 ruler_lengths=4096 ruler_samples=1",
    "generate": "max_tokens!=8",
    "serve": "slots!=2 port!=0",
    "bench train": "preset=tiny seq_len=64 batch_tokens=2048 micro_batch!=1,2 steps!=1 rounds!=0",
}
"""By stage what replaces settings of a command and its recipe; with `!` also defaults. For one number | for a range."""

KINDS: dict[str, str] = {
    "model": "model",
    "teacher": "model",
    "tokenizer": "tokenizer",
    "data tokenizer data": "text",
    "data tokenizer validation": "text",
    "data prepare data": "text",
    "data prepare validation": "text",
    "data longqa data": "text",
    "data convert data": "rows",
    "data show dataset": "packed",
    "pretrain data": "packed",
    "extend-context data": "packed",
    "distill data": "packed",
    "bench train data": "packed",
    "distill chats": "chats",
    "prune data": "packed",
    "prune importance": "importance",
    "sft data": "chats",
    "dpo data": "pairs",
    "dpo prompts": "chats",
    "reward data": "pairs",
    "reward validation": "pairs",
    "grpo data": "chats",
    "grpo validation": "chats",
    "grpo rewards": "reward",
    "eval tasks": "chats",
    "merge tasks": "chats",
    "eval include": "tasks",
    "compare evaluations": "evaluation",
    "inspect directory": "model",
    "lineage directory": "model",
    "replay directory": "model",
}
"""What an input is, by stage and setting or by setting alone."""

REPLACED = {"dpo prompts"}
"""Put there though a command before made it: what a model of this size is right at now and then, but not always."""

NO_COMMA = {
    "name": "instructions",
    "instruction_id_list": ["punctuation:no_comma"],
    "kwargs": [{}],
    "strict": True,
}


class World:
    """A folder in which commands run. shared: where what is made once lies, to be copied from."""

    def __init__(self, folder: Path, shared: Path) -> None:
        self.folder = folder
        self.shared = shared
        for recipe in (ROOT / "recipes").rglob("*.yaml"):
            target = folder / recipe.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(recipe, target)
        (folder / "evals").symlink_to(ROOT / "evals")

    def provide_for(self, stage: Stage, config: StageConfig) -> None:
        """Put there what the command reads and no command before it made."""
        for field, path in _inputs(stage, config):
            kind = KINDS.get(name := f"{stage.name} {field}") or KINDS.get(field)
            if name in REPLACED or not (self.folder / path).exists():
                assert kind is not None, f"what is {field} of {stage.name}? say it in KINDS"
                self.provide(path, f"rows {getattr(config, 'format', '')}" if kind == "rows" else kind)

    def provide(self, path: Path, kind: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind in LINES or kind.startswith("rows "):
            rows = LINES[kind](path) if kind in LINES else _rows(kind.removeprefix("rows "))
            file = target if target.suffix else target / "rows.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(row) + "\n" for row in rows).encode()
            file.write_bytes(gzip.compress(text) if file.suffix == ".gz" else text)
            return
        made = _made(kind, self.shared)
        if made.is_dir():
            shutil.copytree(made, target)
        else:
            shutil.copy(made, target)


def _inputs(stage: Stage, config: StageConfig) -> list[tuple[str, Path]]:
    found = [(item.field, item.path) for item in find_inputs(config)]
    unhashed = [(field, getattr(config, field, None)) for field in ("directory", "model")]
    found += [(field, path) for field, path in unhashed if isinstance(path, Path)]
    named = getattr(config, "tasks", ())
    return found + [("tasks", Path(name)) for name in named if str(name).endswith(".jsonl")]


def shrunk(words: list[str]) -> list[str]:
    """The command with the values of SMALL."""
    stage, config, _ = parse_command(words)
    made = list(words)
    for item in SMALL.get(stage.name, "").split():
        name, _, value = item.partition("=")
        field = name.removesuffix("!")
        if field == name and field not in config.model_fields_set:
            continue
        given = getattr(config, field)
        single, _, ranged = value.partition("|")
        flag = "--" + field.replace("_", "-")
        while flag in made:
            at = made.index(flag)
            del made[at : at + 2]
        made += [flag, ranged if ranged and len(given) > 1 else single]
    return made


# ---- lines ----


def _text(path: Path) -> list[dict[str, Any]]:
    """Other documents for another name."""
    first = zlib.crc32(str(path).encode())
    return [{"text": story(first + number, 300)} for number in range(40)]


def _question(word: str, answer: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"What of the {word}?"}, {"role": "assistant", "content": answer}]


def _chats(path: Path) -> list[dict[str, Any]]:
    """Questions that `_model` answers with a comma, which is wrong, about every second time."""
    return [
        {"messages": _question(word, answer), "thinking": False, "grader": NO_COMMA | {"prompt": ""}}
        for word in list(dict.fromkeys(WORDS))[:12]
        for answer in ("Yes.", "No, sir.")
    ]


def _pairs(path: Path) -> list[dict[str, Any]]:
    return [
        {
            "prompt": [{"role": "user", "content": f"What of the {word}?"}],
            "chosen": f"The {word} is there.",
            "rejected": "Yes, sir.",
        }
        for word in dict.fromkeys(WORDS)
    ]


LINES: dict[str, Callable[[Path], list[dict[str, Any]]]] = {"text": _text, "chats": _chats, "pairs": _pairs}


def _rows(name: str) -> list[Mapping[str, Any]]:
    if name == "taskmaster-rewards":
        return [graded(FIND, 1.0), graded(SAY, 0.0)]
    return [GOOD[name] if name in GOOD else CHATS[name][0]] * 12


# ---- artifacts ----


def run(stage: str, out: Path, **settings: Any) -> None:
    target: Stage = load_target(stage)
    run_stage(
        target,
        target.config.model_validate(settings),
        out=out,
        reporter=QuietReporter(),
        command=["nano2", *target.name.split()],
    )


def _tokenizer(out: Path, shared: Path) -> None:
    out.mkdir()
    save_tokenizer(train_tokenizer(iter([story(number) for number in range(50)]), 400), out)


def _made(kind: str, shared: Path) -> Path:
    """The shared artifact of a kind, made if it is not there."""
    made = shared / kind
    if not made.exists():
        MAKERS[kind](shared / f"{kind}-new", shared)
        (shared / f"{kind}-new").rename(made)
    return made


def _model(out: Path, shared: Path) -> None:
    """A model that answers the questions of `_chats`, made by fine-tuning random weights."""
    base, chats = shared / "base", shared / "chats.jsonl"
    base.mkdir()
    copy_tokenizer(_made("tokenizer", shared), base)
    shape = miniature("M-M*-", vocab_size=448, hidden_size=48, max_position_embeddings=32768)
    save(randomized(shape), base)
    chats.write_text("".join(json.dumps(row) + "\n" for row in _chats(chats) * 3))
    run(
        "stages.sft.stage:STAGE",
        out,
        model=str(base),
        data=[str(chats)],
        seq_len=128,
        batch_tokens=1024,
        micro_batch=8,
        learning_rate=1e-2,
        epochs=8,
        validation_fraction=0,
        tensorboard=False,
        workers=1,
    )


def _packed(out: Path, shared: Path) -> None:
    text = write_jsonl(shared / "web.jsonl.gz", [story(number, 300) for number in range(60)])
    run(
        "stages.data.stage:PREPARE",
        out,
        data=[str(text)],
        tokenizer=str(_made("tokenizer", shared)),
        seq_len=1024,
        validation_fraction=0.2,
        workers=1,
    )


def _reward(out: Path, shared: Path) -> None:
    pairs = shared / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in _pairs(pairs)))
    settings = {
        "model": str(_made("model", shared)),
        "data": [str(pairs)],
        "seq_len": 1024,
        "batch_pairs": 32,
    }
    run("stages.reward.stage:STAGE", out, **settings, tensorboard=False)


def _importance(out: Path, shared: Path) -> None:
    settings = {"model": str(_made("model", shared)), "data": [str(_made("packed", shared))], "samples": 2}
    run("stages.prune.stage:STAGE", shared / "pruned", **settings, layers=4)
    shutil.copy(shared / "pruned" / "prune" / "importance.safetensors", out)


def _evaluation(out: Path, shared: Path) -> None:
    settings = {"model": str(_made("model", shared)), "tasks": ["nano2_arc_easy"], "limit": 3}
    run("stages.eval.stage:STAGE", out, **settings)


def _tasks(out: Path, shared: Path) -> None:
    out.mkdir()
    (out / "mine.jsonl").write_text('{"question": "What of the mill", "answer": " old"}\n')
    (out / "mine.yaml").write_text(
        "task: mine\ndataset_path: json\ndataset_kwargs:\n  data_files:\n"
        f"    test: {shared / 'tasks' / 'mine.jsonl'}\ntest_split: test\noutput_type: loglikelihood\n"
        'doc_to_text: "{{question}}"\ndoc_to_target: "{{answer}}"\n'
        "metric_list:\n  - metric: acc\n"
    )


MAKERS: dict[str, Callable[[Path, Path], None]] = {
    "tokenizer": _tokenizer,
    "model": _model,
    "packed": _packed,
    "reward": _reward,
    "importance": _importance,
    "evaluation": _evaluation,
    "tasks": _tasks,
}

MADE_BY = {
    "data tokenizer": "tokenizer",
    "data prepare": "packed",
    "data synth": "chats",
    "data convert": "chats",
    "reward": "reward",
    "eval": "evaluation",
}


@cache
def _made_anywhere() -> dict[str, str]:
    """What the commands of the docs write, and with which stage."""
    return {
        str(flags["out"]): stage.name
        for _, words in nano2_commands()
        if "-o" in words
        for stage, _, flags in [parse_command(words)]
        if "out" in flags  # a bench has it among its settings
    }


def kind_of(name: str) -> str:
    """What an artifact is that some page makes: a model if none says otherwise."""
    made = _made_anywhere()
    for path in (name, *map(str, Path(name).parents)):
        if path in made:
            return MADE_BY.get(made[path], "model")
    return "model"
