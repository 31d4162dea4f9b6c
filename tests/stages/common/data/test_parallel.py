import os
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from model.errors import ArtifactError, Nano2Error
from stages.common.data.parallel import parallel_map


def _multiplier(factor: int) -> Callable[[int], int]:
    return partial(int.__mul__, factor)


def _bad_task() -> Callable[[int], int]:
    return _refuse_seven


def _refuse_seven(item: int) -> int:
    if item == 7:
        raise ArtifactError("seven", where="here", remedy="avoid it")
    return item


def _mortal_task() -> Callable[[int], int]:
    return _die


def _die(item: int) -> int:
    os._exit(item)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers: int) -> None:
    assert list(parallel_map(partial(_multiplier, 3), range(50), workers)) == [3 * item for item in range(50)]


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_keep_their_class_and_words(workers: int) -> None:
    with pytest.raises(ArtifactError, match="here: seven") as caught:
        list(parallel_map(_bad_task, range(20), workers))
    assert (caught.value.where, caught.value.remedy) == ("here", "avoid it")


def test_only_a_few_items_are_read_ahead() -> None:
    read = []

    def items() -> Iterator[int]:
        for item in range(1000):
            read.append(item)
            yield item

    results = parallel_map(partial(_multiplier, 1), items(), 2)
    assert next(results) == 0
    assert len(read) <= 10
    results.close()


def test_a_dead_worker_is_explained() -> None:
    with pytest.raises(Nano2Error, match="worker processes died") as caught:
        list(parallel_map(_mortal_task, [3, 4], 2))
    assert "--workers" in caught.value.remedy
