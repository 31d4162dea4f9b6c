from pathlib import Path

import pytest

from model.artifact.hashing import content_hash
from model.artifact.lineage import LineageNode
from model.artifact.provenance import Parent, Provenance, write_provenance
from model.errors import ArtifactError
from stages.common.chain.artifacts import Chain
from stages.common.chain.figures import Change, Measure, Verdict, changes
from stages.common.chain.graph import Graph

RISES = Measure("x", "after", "figure", ("before", "m"), ("after", "m"), "higher")
FALLS = Measure("x", "after", "figure", ("before", "m"), ("after", "m"), "lower")


def artifact(folder: Path, name: str, parents: tuple[str, ...] = (), **facts: object) -> None:
    directory = folder / name
    directory.mkdir()
    (directory / "content.txt").write_text(name)
    given = {
        "kind": "model",
        "stage": "toy",
        "config": {},
        "command": ["nano2"],
        "versions": {},
        "device": {},
    }
    made_from = [
        Parent(path=parent, kind="model", content_hash=content_hash(folder / parent)) for parent in parents
    ]
    write_provenance(directory, Provenance.model_validate(given | {"parents": made_from} | facts))


@pytest.mark.parametrize(
    ("measure", "before", "after", "stderr", "verdict"),
    [
        (RISES, 0.2, 0.5, 0.05, "better"),
        (RISES, 0.5, 0.2, 0.05, "worse"),
        (RISES, 0.45, 0.5, 0.05, "within its error"),
        (RISES, 0.5, 0.5, None, "no difference"),
        (FALLS, 3.0, 2.0, None, "better"),
        (FALLS, 2.0, 3.0, None, "worse"),
    ],
)
def test_a_difference_counts_from_two_standard_errors(
    measure: Measure, before: float, after: float, stderr: float | None, verdict: Verdict
) -> None:
    assert Change(measure, before, after, stderr, stderr).verdict == verdict


def test_figures_are_read_from_the_artifacts(tmp_path: Path) -> None:
    artifact(tmp_path, "before", metrics={"m": 0.25})
    artifact(tmp_path, "after", metrics={"m": 0.5})
    (change,) = changes(Chain(tmp_path), [RISES])
    assert (change.before, change.after, change.verdict) == (0.25, 0.5, "better")


def test_a_share_of_counted_items_has_an_error(tmp_path: Path) -> None:
    artifact(tmp_path, "after", metrics={"m": 0.6, "n": 25})
    counted = Measure("x", "after", "figure", 0.5, ("after", "m"), "higher", items=("after", "n"))
    (change,) = changes(Chain(tmp_path), [counted])
    assert (change.before_stderr, change.after_stderr) == (0.0, pytest.approx(0.098, abs=0.001))
    assert change.verdict == "within its error"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    artifact(tmp_path, "before", metrics={"m": 0.25})
    with pytest.raises(ArtifactError, match="not there") as missing:
        changes(Chain(tmp_path), [RISES])
    assert missing.value.where == str(tmp_path / "after")
    artifact(tmp_path, "after", metrics={"other": 0.5})
    with pytest.raises(ArtifactError, match="no number 'm'"):
        changes(Chain(tmp_path), [RISES])


def test_the_longest_path_is_of_what_waits_for_each_other(tmp_path: Path) -> None:
    artifact(tmp_path, "text", seconds=3)
    artifact(tmp_path, "aside", seconds=4)
    artifact(tmp_path, "base", ("text",), seconds=5)
    artifact(tmp_path, "end", ("base", "aside"), seconds=1)
    assert Chain(tmp_path).longest_path() == 9


def node(path: str, *parents: LineageNode, kind: str = "model", stage: str | None = "toy") -> LineageNode:
    return LineageNode(path=path, kind=kind, content_hash="sha256:0", stage=stage, parents=list(parents))


def test_a_graph_has_each_artifact_once_and_stands_artifacts_for_their_files() -> None:
    made = node("/errands", kind="dataset")
    file = node("/errands/train.jsonl", made, kind="data", stage=None)
    raw = node("/books.gz", kind="data", stage=None)
    base = node("/base", raw)
    sft = node("/sft", base, file)
    graph = Graph.of(node("/dpo", sft, file))
    assert set(graph.nodes) == {"/dpo", "/sft", "/base", "/books.gz", "/errands"}
    assert set(graph.parents["/dpo"]) == {"/sft", "/errands"}
    layers = graph.layers()
    assert layers["/books.gz"] < layers["/base"] < layers["/sft"] < layers["/dpo"]
    assert layers["/errands"] == layers["/sft"] - 1  # beside what came before its first use, not at the top
    places = graph.places()
    assert len(set(places.values())) == len(places)
    assert {places[name][0] for name in ("/base", "/sft", "/dpo")} == {0}
