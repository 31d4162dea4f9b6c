"""What the long-context stage takes over from the pretraining of its model."""

from dataclasses import dataclass

from model.artifact.provenance import read_provenance
from model.errors import UsageError
from stages.extend_context.config import ExtendContextConfig


@dataclass(frozen=True)
class Inherited:
    """Tokens of a step, and the constant learning rate."""

    batch_tokens: int
    learning_rate: float


def inherited(config: ExtendContextConfig) -> Inherited:
    """The settings, or where they are left out those of the model's own run, from its nano2.json.

    Report, phase LC: as many tokens a batch as in pretraining, at the floor of its schedule. UsageError where
    the model does not say how it was trained.
    """
    provenance = read_provenance(config.model)
    trained = provenance.config if provenance is not None and provenance.stage == "pretrain" else {}
    peak = trained.get("learning_rate")
    floor = trained.get("final_learning_rate") or (peak / 100 if isinstance(peak, int | float) else None)
    batch_tokens = config.batch_tokens or trained.get("batch_tokens")
    learning_rate = config.learning_rate or floor
    if not isinstance(batch_tokens, int) or not isinstance(learning_rate, int | float):
        missing = "--learning-rate" if isinstance(batch_tokens, int) else "--batch-tokens"
        raise UsageError(
            "the model does not say how it was pretrained", where=str(config.model), remedy=f"pass {missing}"
        )
    return Inherited(batch_tokens, float(learning_rate))
