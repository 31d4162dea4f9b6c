"""Encoded pairs on disk, in OUT.run: whole or not at all, and there again after an interruption.

DIR/pairs.safetensors    all tokens and masks one after the other, lengths, strengths, the reference's log-probabilities
DIR/pairs.json           the place of each pair, and what else belongs to them
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.artifact.staging import staged_directory, write_json
from model.artifact.weights import save_tensors
from model.errors import ArtifactError
from stages.common.data.chat.encoding import EncodedSample
from stages.common.preferences.encoding import EncodedPair

_TENSORS, _TOLD = "pairs.safetensors", "pairs.json"


@dataclass(frozen=True)
class PairSet:
    """Pairs with the reference's log-probabilities [P, 2] (None where there is no reference).

    about: JSON that belongs to them, such as how many were left out.
    """

    pairs: list[EncodedPair]
    reference_P2: Tensor | None = None
    about: dict[str, Any] = field(default_factory=dict)


def save_pairs(directory: Path, pairs: PairSet) -> None:
    """Write the pairs into a directory, in the place of any that it holds."""
    sides = [side for pair in pairs.pairs for side in (pair.chosen, pair.rejected)]
    tensors = {
        "ids": torch.from_numpy(np.concatenate([side.ids for side in sides] or [np.zeros(0, np.int32)])),
        "mask": torch.from_numpy(np.concatenate([side.mask for side in sides] or [np.zeros(0, np.int8)])),
        "lengths": torch.tensor([len(side.ids) for side in sides], dtype=torch.int64),
        "strengths": torch.tensor([pair.strength for pair in pairs.pairs], dtype=torch.float64),
    }
    if pairs.reference_P2 is not None:
        tensors["reference"] = pairs.reference_P2
    shutil.rmtree(directory, ignore_errors=True)
    with staged_directory(directory) as staging:
        save_tensors(tensors, staging / _TENSORS)
        places = [pair.place for pair in pairs.pairs]
        write_json(staging / _TOLD, {"places": places, "about": pairs.about})


def load_pairs(directory: Path) -> PairSet | None:
    """What `save_pairs` wrote; None if nothing is there. ArtifactError if it is damaged."""
    from safetensors.torch import load_file

    if not directory.is_dir():
        return None
    try:
        tensors = load_file(directory / _TENSORS)
        told = json.loads((directory / _TOLD).read_text(encoding="utf-8"))
        ids, mask = tensors["ids"].numpy(), tensors["mask"].numpy()
        ends = list(accumulate(tensors["lengths"].tolist(), initial=0))
        sides = [EncodedSample(ids[first:last], mask[first:last], "") for first, last in pairwise(ends)]
        pairs = _paired(sides, tensors["strengths"].tolist(), told["places"])
        return PairSet(pairs, tensors.get("reference"), told["about"])
    except (
        Exception
    ) as error:  # safetensors raises a kind of its own, and damaged JSON and tensors give many more
        raise ArtifactError(
            f"the kept pairs cannot be read ({type(error).__name__}: {str(error).splitlines()[0]})",
            where=str(directory),
            remedy="remove this directory's parent to start over, or restore it",
        ) from error


def _paired(
    sides: Sequence[EncodedSample], strengths: Sequence[float], places: Sequence[str]
) -> list[EncodedPair]:
    return [
        EncodedPair(chosen, rejected, strength, place)
        for chosen, rejected, strength, place in zip(sides[::2], sides[1::2], strengths, places, strict=True)
    ]
