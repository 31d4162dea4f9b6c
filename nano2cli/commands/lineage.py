"""`nano2 lineage DIR`: the chain an artifact came from, as a tree."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from model.artifact.hashing import short_hash
from model.artifact.lineage import LineageNode, lineage
from stages.common.config import Positional, StageConfig
from stages.common.stage import Stage, StageContext, StageResult

_SHOWN_METRICS = 3
_STYLES = {"ok": "green", "changed": "yellow", "missing": "red", "damaged": "red"}


class LineageConfig(StageConfig):
    """Draw what an artifact was made from, back to the raw data: stage, content hash and first metrics of
    each.

    An input that is gone is shown as missing with the hash it had, one whose content is different now as
    changed. Inputs are found at the recorded path, as it was typed, and beside the artifact by their
    content, so a tree of artifacts can be moved.
    """

    directory: Annotated[Path, Positional()] = Field(description="Artifact or checkpoint directory.")
    check: bool = Field(
        False, description="Hash every file of the chain instead of comparing names and sizes."
    )


STAGE = Stage(name="lineage", kind=None, config=LineageConfig, run="nano2cli.commands.lineage:run")


def run(config: LineageConfig, context: StageContext) -> StageResult:
    root = lineage(config.directory, check=config.check)
    context.reporter.output(_tree(root))
    lost = {node.path: node for node in root.walk() if node.status != "ok"}
    notes = [
        f"{path} ({node.kind} {short_hash(node.content_hash)}) is {node.status}"
        for path, node in lost.items()
    ]
    return StageResult(notes=notes, data=root.model_dump(mode="json"))


def _tree(node: LineageNode) -> Any:
    from rich.tree import Tree

    tree = Tree(_label(node))
    for parent in node.parents:
        tree.add(_tree(parent))
    return tree


def _label(node: LineageNode) -> Any:
    from rich.text import Text

    name = node.path if node.stage is None else Path(node.path).name
    label = Text.assemble((name, "bold"), f"  {node.kind} ", (short_hash(node.content_hash), "cyan"))
    if node.stage:
        label.append(f"  {node.stage}", style="magenta")
    if node.weight is not None:
        label.append(f"  weight {node.weight:g}")
    if node.status != "ok":
        label.append(f"  {node.status}", style=_STYLES[node.status])
    for key, value in list(node.metrics.items())[:_SHOWN_METRICS]:
        label.append(f"  {key} {value:.4g}" if isinstance(value, float) else f"  {key} {value}", style="dim")
    return label
