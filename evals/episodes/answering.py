"""Answers by episodes: prompts with their tasks in, what came of each task out, each request played once and kept."""

from collections.abc import Sequence
from dataclasses import replace

from lm_eval.api.instance import Instance

from evals.answers import Answer
from evals.episodes.asking import DEFAULT_MAX_TURNS, AskedEpisode, episode_settings, kept
from evals.episodes.play import EpisodeSettings, played
from evals.episodes.task import Task
from evals.episodes.tokens import prompt_ids
from evals.request_seeds import RequestSeeds
from evals.respondent import Respondent
from evals.response_cache import tokens_key
from model.chat.template import ends_in_thinking


def played_answers(model: Respondent, requests: Sequence[Instance], thinking: bool | None) -> list[Answer]:
    """For each (`TaskPrompt`, settings) the answer. thinking: what the chat template is told; None leaves it to the task."""
    asked = _asked(model, requests, thinking)
    keys = [model.remembered.key(stop_ids=sorted(model.stop_ids), **episode.content) for episode in asked]
    found = model.remembered.found(keys)
    missing: dict[EpisodeSettings, dict[str, AskedEpisode]] = {}  # by settings: what is played together
    for key, episode in zip(keys, asked, strict=True):
        if key not in found:
            missing.setdefault(episode.settings, {})[key] = episode
    with model.callbacks.progress("playing", len(found) + sum(map(len, missing.values())), "episode") as bar:
        bar.update(len(found))
        for settings, together in missing.items():
            numbered = list(together)
            for number, ended in played(
                model.lm,
                model.tokenizer,
                model.stop_ids,
                [(episode.task, episode.seed) for episode in together.values()],
                settings,
                max_rows=model.batch_rows,
                check=model.callbacks.check,
            ):
                new = {numbered[number]: kept(ended, model.tokenizer, model.stop_ids)}
                model.remembered.put(new)
                found |= new
                bar.update()
    return [
        Answer.of(episode.answer(found[key]), model.think_end)
        for key, episode in zip(keys, asked, strict=True)
    ]


def _asked(model: Respondent, requests: Sequence[Instance], thinking: bool | None) -> list[AskedEpisode]:
    prompts: dict[int, tuple[Task, tuple[int, ...]]] = {}
    seeds = RequestSeeds(model.seed)
    asked = []
    for request in requests:
        prompt, opened = request.args[0], ends_in_thinking(request.args[0])
        if id(prompt) not in prompts:
            task = prompt.task if thinking is None else replace(prompt.task, thinking=thinking)
            prompts[id(prompt)] = task, tuple(prompt_ids(model.tokenizer, task))
        task, ids = prompts[id(prompt)]
        wanted = model.settings.of(request, opened, DEFAULT_MAX_TURNS)
        settings = episode_settings(wanted, model.max_length, request.task_name or "")
        seed = seeds.next(ids, task.grader, request.args[1])
        asked.append(AskedEpisode(task, seed, settings, tokens_key(ids), opened))
    return asked
