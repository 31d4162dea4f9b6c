"""Whether a step diverged because of FP8, and at which layer: it is run again in bfloat16, and once more in FP8, watched."""

import math
from collections.abc import Callable

from model.errors import DivergedError
from model.hybrid import HybridLM
from model.precision.layers import has_fp8, without_fp8
from model.precision.watch import watched
from stages.common.training.out_of_memory import is_out_of_memory
from stages.common.training.team import Team

REMEDY = "the same command with --precision bfloat16 continues from the saved state"


def fault_of_fp8(
    lm: HybridLM, run: Callable[[], float], team: Team, diverged: DivergedError
) -> DivergedError | None:
    """The error that names the layer; None if there is no FP8, or the step is not finite without it either.

    run: the step's passes, forward and backward; its loss. All ranks call this together. Gradients are lost.
    """
    if not has_fp8(lm):
        return None
    what = diverged.what.partition(";")[0]
    lm.zero_grad()
    try:
        with without_fp8(lm):
            loss = run()
            norm = team.clip_gradients(lm, math.inf)
        [wrong_as_well] = team.any(not (math.isfinite(loss) and math.isfinite(norm)))
        if wrong_as_well:
            return None
        lm.zero_grad()
        with watched(lm) as faults:
            run()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return DivergedError(
            f"{what} in FP8; there was no memory to run the batch again, in bfloat16 and watched",
            where=diverged.where,
            remedy=REMEDY,
        )
    shown = f"the first layer at fault is {faults[0]}" if faults else "no FP8 layer shows it when watched"
    return DivergedError(
        f"{what} in FP8, while the same batch is finite in bfloat16; {shown}",
        where=diverged.where,
        remedy=REMEDY,
    )
