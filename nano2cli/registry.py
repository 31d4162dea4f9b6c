"""The commands of `nano2`: one line each. A command's code is imported when it is invoked, never to list
it."""

from typing import NamedTuple


class Command(NamedTuple):
    """name: as typed, a group and a space before it where it has one. target: `module:STAGE`, see
    docs/plan.md."""

    name: str
    help: str
    panel: str
    target: str


class Group(NamedTuple):
    """A word that has commands of its own: `nano2 data prepare`."""

    name: str
    help: str
    panel: str


_STAGES = "Stages: directory in, directory out"
_MODELS = "Models"
_ARTIFACTS = "Artifacts"
_SETUP = "This machine and its commands"

GROUPS: tuple[Group, ...] = (
    Group("data", "Tokenizers and packed datasets from text.", _STAGES),
    Group("bench", "Measure speed and memory.", _SETUP),
)

COMMANDS: tuple[Command, ...] = (
    Command("data tokenizer", "Train a byte-level BPE tokenizer.", _STAGES, "stages.data.stage:TOKENIZER"),
    Command("data prepare", "Tokenize, clean, blend and pack text.", _STAGES, "stages.data.stage:PREPARE"),
    Command("data convert", "Turn other formats into chat jsonl.", _STAGES, "stages.data.stage:CONVERT"),
    Command("data synth", "Make verified problems to teach and test.", _STAGES, "stages.data.stage:SYNTH"),
    Command("data show", "Show tokens, lengths and masks of a dataset.", _STAGES, "stages.data.stage:SHOW"),
    Command("data longqa", "Append question-answer pairs to long text.", _STAGES, "stages.data.stage:LONGQA"),
    Command("pretrain", "Train a hybrid model from scratch.", _STAGES, "stages.pretrain.stage:STAGE"),
    Command("extend-context", "Continue on longer rows.", _STAGES, "stages.extend_context.stage:STAGE"),
    Command("sft", "Fine-tune on conversations.", _STAGES, "stages.sft.stage:STAGE"),
    Command("dpo", "Prefer right answers to wrong ones.", _STAGES, "stages.dpo.stage:STAGE"),
    Command("reward", "Train a model that scores answers.", _STAGES, "stages.reward.stage:STAGE"),
    Command("grpo", "Reinforce what is rewarded.", _STAGES, "stages.grpo.stage:STAGE"),
    Command("prune", "Cut a model down to a size or a budget.", _STAGES, "stages.prune.stage:STAGE"),
    Command("distill", "Teach a model its teacher's logits.", _STAGES, "stages.distill.stage:STAGE"),
    Command("merge", "Average models.", _STAGES, "stages.merge.stage:STAGE"),
    Command("eval", "Measure a model on lm-eval tasks.", _STAGES, "stages.eval.stage:STAGE"),
    Command("compare", "Compare evaluations item by item.", _STAGES, "stages.compare.stage:STAGE"),
    Command("generate", "Continue a prompt or answer a chat.", _MODELS, "stages.generate.stage:STAGE"),
    Command("serve", "Answer requests in OpenAI's form.", _MODELS, "stages.serve.stage:STAGE"),
    Command(
        "verify", "Compare this core with transformers on a model.", _MODELS, "stages.verify.stage:STAGE"
    ),
    Command(
        "inspect", "Show what an artifact is and what made it.", _ARTIFACTS, "nano2cli.commands.inspect:STAGE"
    ),
    Command(
        "lineage", "Draw the chain an artifact came from.", _ARTIFACTS, "nano2cli.commands.lineage:STAGE"
    ),
    Command(
        "replay", "Print or run the commands that rebuild it.", _ARTIFACTS, "nano2cli.commands.replay:STAGE"
    ),
    Command(
        "schema", "Print the settings of a command as JSON schema.", _SETUP, "nano2cli.commands.schema:STAGE"
    ),
    Command(
        "doctor", "Report devices, packages and the paths taken.", _SETUP, "nano2cli.commands.doctor:STAGE"
    ),
    Command("bench cpu", "Compare with transformers on this CPU.", _SETUP, "stages.bench.stage:CPU"),
    Command(
        "bench eval", "Compare with lm-eval's hf backend on this CPU.", _SETUP, "stages.bench.stage:EVAL"
    ),
    Command(
        "bench train",
        "Measure training steps, also against transformers.",
        _SETUP,
        "stages.bench.stage:TRAIN",
    ),
    Command("bench serve", "Measure a server under load.", _SETUP, "stages.bench.stage:SERVE"),
)


def find_command(name: str) -> Command | None:
    """The command typed as `name`, group included, or None."""
    return next((command for command in COMMANDS if command.name == name), None)
