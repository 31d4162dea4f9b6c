"""The lineage of an artifact as a drawing: what was made from what, from the raw data above to the artifact below."""

from dataclasses import dataclass
from pathlib import Path

from model.artifact.lineage import LineageNode


@dataclass(frozen=True)
class Graph:
    """Nodes by path, and for each the paths of what it was made from. The first is the artifact itself."""

    nodes: dict[str, LineageNode]
    parents: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, root: LineageNode) -> "Graph":
        nodes: dict[str, LineageNode] = {}
        parents: dict[str, tuple[str, ...]] = {}
        waiting = [root]
        while waiting:
            node = waiting.pop()
            if node.path in nodes:
                continue
            nodes[node.path] = node
            parents[node.path] = tuple(dict.fromkeys(parent.path for parent in node.parents))
            waiting += node.parents
        held = {path for path, node in nodes.items() if _is_file_of_artifact(node)}

        def made_of(path: str) -> tuple[str, ...]:
            """With the artifact in the place of a file in it."""
            sources = (
                source
                for parent in parents[path]
                for source in (parents[parent] if parent in held else (parent,))
            )
            return tuple(dict.fromkeys(sources))

        kept = {path: node for path, node in nodes.items() if path not in held}
        return cls(kept, {path: made_of(path) for path in kept})

    def layers(self) -> dict[str, int]:
        """The layer of each node, from 0: below all that it was made from, and as near as can be to what was made of it."""
        deepest: dict[str, int] = {}

        def depth(path: str) -> int:
            if path not in deepest:
                deepest[path] = 1 + max((depth(parent) for parent in self.parents[path]), default=-1)
            return deepest[path]

        for path in self.nodes:
            depth(path)
        latest = dict(deepest)
        for path in sorted(self.nodes, key=lambda item: -deepest[item]):
            children = [child for child, of_child in self.parents.items() if path in of_child]
            if children and not self.parents[path]:
                latest[path] = min(latest[child] for child in children) - 1
        return latest

    def places(self) -> dict[str, tuple[float, int]]:
        """Column and layer of each node. Models, which follow one another, stand in the first column."""
        layers = self.layers()
        places: dict[str, tuple[float, int]] = {}
        for layer in sorted(set(layers.values())):
            inside = [path for path, of_path in layers.items() if of_path == layer]
            inside.sort(
                key=lambda path: (self.nodes[path].kind != "model", self.nodes[path].kind == "data", path)
            )
            first = 0 if self.nodes[inside[0]].kind == "model" else 1
            places |= {path: (column, layer) for column, path in enumerate(inside, start=first)}
        return places


def label(node: LineageNode) -> str:
    return Path(node.path).name


def _is_file_of_artifact(node: LineageNode) -> bool:
    """A file inside of an artifact, such as train.jsonl: the artifact stands for it."""
    return node.stage is None and any(parent.stage is not None for parent in node.parents)
