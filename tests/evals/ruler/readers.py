"""Answers found by reading the prompt alone, without knowing how it was made."""

import re
from collections import Counter

from evals.ruler.material import questions
from evals.ruler.samples import RulerSample

NEEDLE = re.compile(r"special magic (number|uuid) for (\S+) is: ([0-9a-f-]+)\.")


def needles(sample: RulerSample) -> list[tuple[str, str]]:
    """Key and value of each, in the order of the text."""
    return [(key, value) for _, key, value in NEEDLE.findall(sample.prompt)]


def asked_keys(sample: RulerSample) -> list[str]:
    question = sample.prompt.splitlines()[-1]
    (listed,) = re.findall(r"special magic \w+ for (.*) in the text above\?", question)
    return re.split(", | and ", listed)


def assignments(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^VAR ([A-Z]+) = (?:VAR )?(\w+)$", text, re.MULTILINE)


def lists(sample: RulerSample) -> list[list[tuple[int, str]]]:
    """The numbered lists of the worked example and of the sample."""
    return [
        [(int(number), word) for number, word in re.findall(r"(\d+)\. (\w+)", line)]
        for line in sample.prompt.splitlines()
        if line.startswith("1. ")
    ]


def coded_words(sample: RulerSample) -> Counter[str]:
    return Counter(sample.prompt.splitlines()[1].split(" "))


def documents(sample: RulerSample) -> list[str]:
    parts = re.split(
        r"(?:\A|\n\n)Document (\d+):\n", sample.prompt.partition("\n\n")[2].rpartition("\n\nAnswer the")[0]
    )
    assert list(map(int, parts[1::2])) == list(range(1, len(parts) // 2 + 1))
    return parts[2::2]


def gold(sample: RulerSample) -> str:
    """The paragraph that SQuAD has the question about."""
    question = sample.prompt.rpartition("\n\nQuestion: ")[2]
    paragraphs = {
        questions().paragraphs[each.paragraph] for each in questions().asked if each.text == question
    }
    (found,) = [paragraph for paragraph in paragraphs if paragraph in documents(sample)]
    return found


def read(sample: RulerSample) -> set[str]:
    """What a perfect reader answers."""
    if sample.task.startswith("niah"):
        wanted = asked_keys(sample)
        return {value for key, value in needles(sample) if key in wanted}
    if sample.task == "vt":
        found = {re.findall(r"assigned the value (\d+)", sample.prompt)[-1]}
        for variable, source in assignments(sample.prompt):
            if source in found:
                found.add(variable)
        return {name for name in found if not name.isdigit()}
    if sample.task == "cwe":
        return {word for word, _ in Counter(word for _, word in lists(sample)[-1]).most_common(10)}
    if sample.task == "fwe":
        return {word for word, _ in coded_words(sample).most_common(4)[1:]}
    return {answer for answer in sample.answers if answer in gold(sample)}
