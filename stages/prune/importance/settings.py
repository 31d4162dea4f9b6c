"""How importance is measured. No torch here."""

from typing import Annotated, Literal

from pydantic import Field

from stages.common.config import Panel, StageConfig

Aggregation = Literal["mean", "l2"]
BlockRanking = Literal["iterative", "random"]
MambaRanking = Literal["grouped", "global"]
NeuronScore = Literal["activation", "preactivation"]


class ImportanceSettings(StageConfig):
    """What is read, and how activations become scores. The defaults are those of Minitron for hybrids (arXiv 2504.11409,
    and Nemotron Nano 2, section 4.1): of each sample the mean over its tokens, and the L2 norm over the samples."""

    samples: Annotated[int, Panel("Importance")] = Field(
        1024, gt=0, description="Rows of the data that are read to measure importance."
    )
    layer_samples: Annotated[int | None, Panel("Importance")] = Field(
        None, gt=0, description="Rows to compare logits on while blocks go; by default all of them."
    )
    sample_batch: Annotated[int, Panel("Importance")] = Field(
        1, gt=0, description="Rows in one forward pass."
    )
    sequence_aggregation: Annotated[Aggregation, Panel("Importance")] = Field(
        "mean", description="Of absolute activations, over a sample's tokens."
    )
    batch_aggregation: Annotated[Aggregation, Panel("Importance")] = Field(
        "l2", description="Of what came of that, over the samples."
    )
    neuron_score: Annotated[NeuronScore, Panel("Importance")] = Field(
        "activation",
        description="Score MLP neurons by what the second linear reads, or before the squared ReLU: as the report writes "
        "it, by which a neuron that never fires counts, too.",
    )
    block_ranking: Annotated[BlockRanking, Panel("Importance")] = Field(
        "iterative",
        description="Blocks go by the error of the logits without them, or by chance, drawn from --calibration-seed "
        "(a control for experiments).",
    )
    mamba_ranking: Annotated[MambaRanking, Panel("Importance")] = Field(
        "grouped",
        description="Rank Mamba heads within their group, or over all groups: heads then move to other groups' B and C, "
        "and the model suffers (a control for experiments).",
    )
    calibration_seed: Annotated[int, Panel("Importance")] = Field(
        0, ge=0, lt=2**63, description="Of which rows are read."
    )
