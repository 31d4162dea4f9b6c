"""Known values: another one would change every sampled answer."""

from evals.request_seeds import RequestSeeds


def test_a_seed_belongs_to_the_prompt_and_to_how_often_it_was_asked() -> None:
    seeds = RequestSeeds(7)
    first = seeds.next((1, 2, 3), {"temperature": 1.0})
    assert seeds.next((1, 2, 3), {"temperature": 1.0}) == 5667029941795205314
    assert seeds.next((1, 2, 3), {"temperature": 0.5}) == first, (
        "another question, which was not asked before"
    )
    assert RequestSeeds(7).next((1, 2, 3)) == first
    assert len({first, RequestSeeds(8).next((1, 2, 3)), seeds.next((1, 2)), seeds.next((1, 2))}) == 4
