"""The candidates that the settings of a run ask for. No torch here."""

from model.config import HybridConfig
from stages.prune.config import PruneConfig
from stages.prune.kept import Shape
from stages.prune.search.candidates import BlocksAt, Candidates
from stages.prune.search.space import grid


def find_candidates(config: PruneConfig, whole: HybridConfig, blocks_at: BlocksAt) -> Candidates:
    """The grid of the settings and the shapes given, ranked. UsageError for a shape that the model cannot be pruned to."""
    given = []
    for named in config.shapes:
        shape = named.within(Shape.of(whole))
        shape.check(whole)
        given.append(shape)
    return Candidates.of(grid(config.axes, whole), given, whole, blocks_at, config.budget)


def shallowest(config: PruneConfig, whole: HybridConfig) -> int:
    """The fewest blocks that any candidate has: until then blocks must be ranked."""
    depths = [*config.layers, *(shape.layers for shape in config.shapes if shape.layers)]
    return min(depths, default=whole.num_hidden_layers)
