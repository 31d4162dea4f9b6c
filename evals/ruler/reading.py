"""Questions over documents (qa_1): the paragraph of a SQuAD question among others, those of its own article first."""

from collections.abc import Callable
from random import Random

from evals.ruler.drafts import Draft
from evals.ruler.material import questions
from evals.ruler.setting import Setting

_ASK = "Answer the question from the documents {place}. Give the answer alone, without any other words."
_TASK = f"""{_ASK.format(place="below")}

{{documents}}

{_ASK.format(place="above")}

Question: {{question}}"""
_PREFIX = "Answer:"
_MARGIN = 8
"""Tokens by which the sum of the pieces may be wrong."""


def read_paragraphs(setting: Setting) -> Callable[[int], Draft]:
    """Sample i has the i-th question of a drawn order, from the first again after the last. Questions that do not fit
    together with the shortest other paragraph are left out, unless none fits."""
    known = questions()
    costs = setting.counter.kept_pieces(f"{_document(1, text)}\n\n" for text in known.paragraphs)
    frames = setting.counter.kept_pieces(
        f"{_prompt([], question.text)} {_PREFIX}" for question in known.asked
    )
    shortest, second = sorted(range(len(costs)), key=costs.__getitem__)[:2]

    def fits(number: int) -> bool:
        question = known.asked[number]
        other = second if question.paragraph == shortest else shortest
        needed = frames[number] + costs[question.paragraph] + costs[other]
        return needed + _MARGIN <= setting.budget(min(question.answers, key=len))

    order = list(range(len(frames)))
    Random(f"{setting.seed} {setting.task}").shuffle(order)
    order = [number for number in order if fits(number)] or order

    def draft(index: int) -> Draft:
        number = order[index % len(order)]
        return ReadingDraft(setting, number, frames[number], costs, index)

    return draft


class ReadingDraft:
    """One sample. The size is in tokens: documents that have no more room are passed over. The paragraph asked about is
    there once; the others come again when all are there."""

    answer_prefix = _PREFIX

    def __init__(self, setting: Setting, number: int, frame: int, costs: list[int], index: int) -> None:
        random = setting.random(index)
        self._question = questions().asked[number]
        self.answers = self._question.answers
        self.answer_text = min(self.answers, key=len)
        article = random.sample(self._question.article, len(self._question.article))
        near = {self._question.paragraph, *article}
        far = [other for other in range(len(costs)) if other not in near]
        random.shuffle(far)
        self._others = [*article, *far]
        self._costs = costs
        self._fixed = frame + costs[self._question.paragraph]
        self._seed = random.getrandbits(64)
        self._depth = setting.grid(index, 1)[0] if setting.depths else random.random()
        self.least = self._fixed + min(costs[other] for other in self._others)
        self.most = 2 * max(setting.length, self.least)

    def tokens(self, size: int) -> int:
        return self._fixed + sum(self._costs[other] for other in self._chosen(size))

    def render(self, size: int) -> tuple[str, tuple[float, ...]]:
        chosen = self._chosen(size)
        Random(self._seed).shuffle(chosen)
        place = round(self._depth * len(chosen))
        chosen.insert(place, self._question.paragraph)
        paragraphs = [questions().paragraphs[number] for number in chosen]
        return _prompt(paragraphs, self._question.text), (self._depth,)

    def _chosen(self, size: int) -> list[int]:
        left = size - self._fixed
        chosen: list[int] = []
        passed_over = False
        while not passed_over:
            for other in self._others:
                if self._costs[other] <= left:
                    chosen.append(other)
                    left -= self._costs[other]
                else:
                    passed_over = True
        return chosen


def _document(number: int, text: str) -> str:
    return f"Document {number}:\n{text}"


def _prompt(paragraphs: list[str], question: str) -> str:
    documents = "\n\n".join(_document(number, text) for number, text in enumerate(paragraphs, start=1))
    return _TASK.replace("{documents}", documents).replace("{question}", question)
