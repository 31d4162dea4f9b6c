"""Speeds of different models say nothing: two sides must begin alike before they are compared."""

from model.errors import Nano2Error

LOSS_TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2, "fp8": 5e-2, "fp8-tensor": 5e-2}
"""Nats, by the precision of the products."""
GRADIENT_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1, "fp8": 0.2, "fp8-tensor": 0.2}
"""Relative."""

First = tuple[float, float]
"""Loss and gradient norm of the first step."""


def difference(mine: First, theirs: First, precision: str) -> str:
    """In words what differs of loss or gradient norm of the same weights and tokens; empty if they agree."""
    agree = (
        abs(mine[0] - theirs[0]) <= LOSS_TOLERANCE[precision]
        and abs(mine[1] / theirs[1] - 1) <= GRADIENT_TOLERANCE[precision]
    )
    if agree:  # not where one is not finite
        return ""
    return f"losses {mine[0]:.6f} and {theirs[0]:.6f}, gradient norms {mine[1]:.6f} and {theirs[1]:.6f}"


def check_same_start(mine: First, theirs: First, precision: str, where: str) -> None:
    """Nano2Error naming the setting if they differ."""
    if different := difference(mine, theirs, precision):
        raise Nano2Error(
            f"the two sides differ on the same weights: {different}",
            where=where,
            remedy="find the layer with nano2 verify; speeds of different models say nothing",
        )
