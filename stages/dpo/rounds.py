"""Steps of dpo over the model's own answers, in rounds: sample, grade, pair right with wrong, train, and again.

A round's pairs are made when its first step asks for them, from the model as it is then, which is also the reference. They
are kept in OUT.run with the reference's log-probabilities until the run ends, so that a run that was killed goes on with
them; one that was killed while they were made comes back to the same model and makes the same ones.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from statistics import fmean
from typing import Any

import torch

from evals.episodes.episode import EpisodeSettings
from evals.episodes.play import play
from evals.episodes.task import Task
from model.errors import ArtifactError
from model.hybrid import HybridLM
from model.inference.stopping import stop_token_ids
from model.seeds import seed56
from stages.common.data.blending import BlendedOrder
from stages.common.data.chat.tokenizer import ChatTokenizer
from stages.common.preferences.batches import PairBatch
from stages.common.preferences.encoding import EncodedPair
from stages.common.preferences.reference import reference_logprobs
from stages.common.preferences.store import PairSet, load_pairs, save_pairs
from stages.common.preferences.stream import PairSteps
from stages.common.rewards.grading import Grading
from stages.common.rewards.part import Failure, counted
from stages.common.rewards.settings import GraderReward
from stages.common.stage import StageContext
from stages.common.training.steps import StepShape
from stages.dpo.config import DpoConfig
from stages.dpo.pairing import Judged, pair_up
from stages.dpo.questions import read_questions

_ALL = "questions"


class RoundPairs:
    """The pairs that the model makes itself of `config.prompts`: a stream of `rounds` times `steps_per_round` steps.

    A round without any pair ends the run: in the first that is an error, later the model trained so far is the result.
    """

    def __init__(
        self, lm: HybridLM, tokenizer: ChatTokenizer, config: DpoConfig, context: StageContext
    ) -> None:
        self._lm, self._tokenizer, self._config, self._context = lm, tokenizer, config, context
        self._tasks = read_questions(config, tokenizer, context.reporter)
        self._asked_a_round = min(config.prompts_per_round or len(self._tasks), len(self._tasks))
        self._order = BlendedOrder(
            {_ALL: len(self._tasks)}, [{_ALL: 1.0}], config.rounds * self._asked_a_round, config.seed, ()
        )
        self._stop_ids = stop_token_ids(config.model, lm.config, tokenizer.chat, chat=True)
        self._round: tuple[int, PairSet, PairSteps | None] | None = None
        self.shape = StepShape(
            steps=config.rounds * config.steps_per_round,
            sequences=config.batch_pairs,
            micro_batch=config.micro_batch,
            seq_len=config.seq_len,
        )

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What came of each round."""
        kept = [load_pairs(self._directory(number)) for number in range(self._config.rounds)]
        return [{name: pairs.about[name] for name in _TOLD} for pairs in kept if pairs is not None]

    @property
    def metrics(self) -> dict[str, float | int | str]:
        rows = self.rows
        return {
            "rounds": len(rows),
            "pairs": sum(row["pairs"] for row in rows),
            "right_in_first_round": rows[0]["right"],
            "right_in_last_round": rows[-1]["right"],
        }

    def batch(self, step: int) -> PairBatch | None:
        steps = self._steps_of(step)
        return None if steps is None else steps.batch(step % self._config.steps_per_round)

    def figures(self, step: int) -> dict[str, float]:
        self._steps_of(step)
        assert self._round is not None
        about = self._round[1].about
        return {"round": about["round"], **{f"rollouts/{name}": about[name] for name in _LOGGED}}

    def describe(self, step: int, start: int, end: int) -> str:  # noqa: ARG002
        steps = self._steps_of(step)
        assert steps is not None
        within = steps.describe(step % self._config.steps_per_round)
        return f"step {step + 1} (round {step // self._config.steps_per_round + 1}, {within})"

    def held_out_batches(self, tokens: int) -> list[PairBatch]:  # noqa: ARG002
        """None: `nano2 eval` measures on other questions."""
        return []

    def _steps_of(self, step: int) -> PairSteps | None:
        """The steps of the round that `step` belongs to; None if it has no pairs."""
        number = step // self._config.steps_per_round
        if self._round is None or self._round[0] != number:
            pairs = load_pairs(self._directory(number)) or self._made(number)
            self._round = number, pairs, self._as_steps(number, pairs) if pairs.pairs else None
        return self._round[2]

    def _as_steps(self, number: int, pairs: PairSet) -> PairSteps:
        return PairSteps(
            pairs,
            {_ALL: len(pairs.pairs)},
            {_ALL: 1.0},
            steps=self._config.steps_per_round,
            settings=self._config,
            seed=seed56(f"{self._config.seed}|order|{number}"),
            pad_id=self._tokenizer.text.pad_id,
        )

    def _made(self, number: int) -> PairSet:
        self._lm.eval()
        judged = self._sampled(number)
        pairs = [pair for samples in judged for pair in pair_up(samples, self._config.pairs_per_prompt)]
        about = _told(number, judged, pairs)
        shown = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in about.items())
        self._context.reporter.log(shown)
        if not pairs:
            self._without_pairs(number, about)
        reference_P2 = reference_logprobs(
            self._lm,
            pairs,
            self._config,
            pad_id=self._tokenizer.text.pad_id,
            micro_batch=self._config.micro_batch,
            reporter=self._context.reporter,
            check=self._check,
        )
        self._lm.train()
        made = PairSet(pairs, reference_P2, about)
        save_pairs(self._directory(number), made)
        return made

    def _sampled(self, number: int) -> list[list[Judged]]:
        """The graded samples of each question of a round."""
        config = self._config
        first = number * self._asked_a_round
        tasks = [self._tasks[self._order[first + offset][1]] for offset in range(self._asked_a_round)]
        asked = [
            (task, seed56(f"{config.seed}|{number}|{_content(task)}|{sample}"))
            for task in tasks
            for sample in range(config.samples)
        ]
        with self._context.reporter.progress(f"round {number + 1}: sampling", None, "step") as bar:

            def check() -> None:
                bar.update(1)
                self._check()

            with torch.inference_mode():
                episodes = play(
                    self._lm,
                    self._tokenizer.chat,
                    self._stop_ids,
                    asked,
                    episode_settings(config),
                    max_rows=config.rollout_rows,
                    check=check,
                )
        with closing(Grading(GraderReward(kind="grader"), self._check)) as grading:
            grades = grading.values(episodes)
        reasons = Counter(grade.reason for grade in grades if isinstance(grade, Failure))
        if reasons:
            self._context.reporter.warn(
                f"round {number + 1}: {reasons.total()} answers could not be graded and were left out: {counted(reasons)}"
            )
        judged = [
            Judged(episode, None if isinstance(grade, Failure) else grade)
            for episode, grade in zip(episodes, grades, strict=True)
        ]
        return [judged[start : start + config.samples] for start in range(0, len(judged), config.samples)]

    def _without_pairs(self, number: int, about: dict[str, Any]) -> None:
        samples = f"{about['samples']} answers to {about['prompts']} questions"
        if not number:
            raise ArtifactError(
                f"no question has both a right and a wrong answer among {samples} "
                f"({about['all_right']} questions have right ones alone, {about['all_wrong']} wrong ones alone; "
                f"{about['not_graded']} answers could not be graded)",
                where=", ".join(map(str, self._config.prompts)),
                remedy="give questions that the model answers at times, more --samples or a higher --temperature",
            )
        self._context.reporter.warn(
            f"round {number + 1}: no question has both a right and a wrong answer among {samples}, so training ends "
            f"here, after {number} of {self._config.rounds} rounds"
        )

    def _check(self) -> None:
        self._context.check_stop("the round's answers are sampled anew")

    def _directory(self, number: int) -> Any:
        return self._context.run_dir / f"round-{number + 1:05d}"


def episode_settings(config: DpoConfig) -> EpisodeSettings:
    """How the answers are sampled. An answer takes half a row at most, so that every pair fits into one."""
    return EpisodeSettings(
        max_tokens=config.max_tokens,
        max_turns=config.max_turns,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        thinking_budget=config.thinking_budget,
        max_length=config.seq_len // 2,
    )


_TOLD = (
    *("round", "prompts", "samples", "right", "unfinished", "not_graded", "all_right", "all_wrong"),
    *("pairs", "chosen_tokens", "rejected_tokens"),
)
_LOGGED = ("right", "unfinished", "pairs", "chosen_tokens", "rejected_tokens")


def _told(number: int, judged: Sequence[Sequence[Judged]], pairs: Sequence[EncodedPair]) -> dict[str, Any]:
    """A round in numbers: shares of all samples, and mean trained tokens of each side."""
    graded = [[sample for sample in samples if sample.score is not None] for samples in judged]
    every = [sample for samples in graded for sample in samples]
    rights = [sum(sample.is_right for sample in samples) for samples in graded]
    return {
        "round": number + 1,
        "prompts": len(judged),
        "samples": sum(map(len, judged)),
        "right": sum(rights) / max(1, len(every)),
        "unfinished": sum(sample.episode.end != "answered" for sample in every) / max(1, len(every)),
        "not_graded": sum(map(len, judged)) - len(every),
        "all_right": sum(0 < right == len(samples) for right, samples in zip(rights, graded, strict=True)),
        "all_wrong": sum(right == 0 < len(samples) for right, samples in zip(rights, graded, strict=True)),
        "pairs": len(pairs),
        "chosen_tokens": fmean(float(pair.chosen.mask.sum()) for pair in pairs) if pairs else 0.0,
        "rejected_tokens": fmean(float(pair.rejected.mask.sum()) for pair in pairs) if pairs else 0.0,
    }


def _content(task: Task) -> str:
    return repr((task.messages, task.tools, task.thinking))
