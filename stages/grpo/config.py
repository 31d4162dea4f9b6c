"""Settings of `nano2 grpo`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.common.config import Cosmetic, DataPaths, InputPath, ModelPath, Panel
from stages.common.preset import PresetSettings
from stages.common.rewards.settings import RewardPart, names
from stages.common.sizes import Size
from stages.common.training.settings import TrainingSettings

_SAMPLING, _LOSS, _SCHEDULE, _VALIDATION = (
    Panel("Sampling"),
    Panel("Loss"),
    Panel("Schedule"),
    Panel("Validation"),
)


class GrpoConfig(PresetSettings, TrainingSettings):
    """Reinforcement learning with verifiable and learned rewards (report, section 3.2): GRPO.

    Each step samples a group of answers, or of whole episodes with tools, to each of some prompts, rewards them, and
    makes those more probable that were better than their group. Data is chat jsonl whose lines have graders.
    """

    model: ModelPath = Field(description="Model to start from.")
    data: DataPaths = Field(
        min_length=1,
        description="Chat jsonl of prompts, with how often an epoch reads it: 0.5 is every other one.",
    )
    rewards: tuple[RewardPart, ...] = Field(
        ("grader",),  # type: ignore[arg-type]  # read by the part's own validator
        min_length=1,
        description="Parts whose weighted sum is the reward: grader, or a JSON object with a kind (grader, length, model, "
        """judge) and its settings, such as '{"kind": "length", "max_tokens": 512, "buffer": 64}': docs/rewards.md.""",
    )
    steps: Size = Field(gt=0, description="Optimizer steps.")
    prompts: Size = Field(64, gt=0, description="Prompts of one batch of rollouts.")
    samples: Size = Field(16, ge=2, description="Episodes of each prompt: a group.")
    updates: int = Field(
        1, gt=0, description="Steps on each batch of rollouts, each of them on the whole batch."
    )
    seq_len: Size = Field(
        8192, ge=16, le=1 << 24, description="Tokens in a row, and of the longest episode with its prompt."
    )
    max_failed: Annotated[float, Cosmetic()] = Field(
        0.1, ge=0, le=1, description="Share of a batch's samples without a reward above which the run stops."
    )
    max_gap: Annotated[float, Cosmetic()] = Field(
        0.05, gt=0, description="Mean gap of trainer and engine in nats a token above which the run stops."
    )

    max_tokens: Annotated[Size, _SAMPLING] = Field(
        1024, gt=0, description="Tokens that an episode may generate, all turns together."
    )
    max_turns: Annotated[int, _SAMPLING] = Field(8, gt=0, description="Turns of an episode with tools.")
    temperature: Annotated[float, _SAMPLING] = Field(
        1.0, gt=0, description="Of sampling; the loss is about the probabilities at this temperature."
    )
    thinking: Annotated[Literal["data", "on", "off", "mixed"], _SAMPLING] = Field(
        "data", description="As a line says, always, never, or on in half of the groups, drawn by chance."
    )
    thinking_budget: Annotated[Size | None, _SAMPLING] = Field(
        None, ge=0, description="Tokens of thinking after which it is closed; what is put in is not trained."
    )
    thinking_grace: Annotated[Size, _SAMPLING] = Field(
        500, ge=0, description="More tokens until a newline at which it can be closed."
    )
    max_rows: Annotated[int, _SAMPLING] = Field(
        32, gt=0, le=4096, description="Episodes sampled at the same time."
    )
    resample: Annotated[int, _SAMPLING] = Field(
        0,
        ge=0,
        le=100,
        description="Times that groups of equal rewards are replaced by those of further prompts.",
    )

    clip_low: Annotated[float, _LOSS] = Field(
        0.2, gt=0, le=1, description="Ratios below 1 less this are clipped."
    )
    clip_high: Annotated[float, _LOSS] = Field(0.2, gt=0, description="Ratios above 1 and this are clipped.")
    kl: Annotated[float, _LOSS] = Field(
        0.0,
        ge=0,
        description="Weight of the KL divergence from the starting model, which is loaded twice then.",
    )
    baseline: Annotated[Literal["group", "leave-one-out"], _LOSS] = Field(
        "group", description="What a reward is compared with: the group's mean, or that of the others in it."
    )
    normalize: Annotated[bool, _LOSS] = Field(
        True, description="Divide by the standard deviation of the group."
    )
    aggregation: Annotated[Literal["token", "sequence"], _LOSS] = Field(
        "token",
        description="Mean over all tokens of a step (DAPO), or over the means of its episodes (GRPO).",
    )
    overlong: Annotated[Literal["keep", "mask"], _LOSS] = Field(
        "keep", description="Whether episodes that were cut at the token limit are trained."
    )

    learning_rate: Annotated[float, _SCHEDULE] = Field(5e-6, gt=0, description="Constant learning rate.")
    warmup_steps: Annotated[Size, _SCHEDULE] = Field(
        0, ge=0, description="Steps over which it rises from zero."
    )

    validation: Annotated[tuple[InputPath, ...], _VALIDATION] = Field(
        (), description="Chat jsonl of held-out prompts; their mean reward is told, answers being greedy."
    )
    validate_first: Annotated[bool, _VALIDATION] = Field(
        True,
        description="Also validate before the first step, as at the end; the figures are named ..._before.",
    )
    validation_tokens: Annotated[Size, _VALIDATION] = Field(
        0,
        ge=0,
        description="Of a validation on the way: so many prompts as could generate these; 0 takes all, as the end does.",
    )
    log_every: Annotated[int, Cosmetic(), Panel("Run")] = Field(
        1, gt=0, description="Steps between logged lines."
    )
    keep_rollouts: Annotated[int, Panel("Run")] = Field(
        4, ge=0, description="Episodes of each batch that OUT/rollouts.jsonl shows."
    )

    @model_validator(mode="after")
    def _check(self) -> "GrpoConfig":
        names(self.rewards)
        if self.thinking == "off" and self.thinking_budget is not None:
            raise ValueError("thinking_budget is given, and thinking is off")
        if self.max_tokens > self.seq_len:
            raise ValueError(
                f"max_tokens {self.max_tokens} is above seq_len {self.seq_len}, the longest episode"
            )
        self.refuse_fp8("what is sampled and the reference are")
        if self.warmup_steps > self.steps:
            raise ValueError("warmup_steps is above steps")
        return self
