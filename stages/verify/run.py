"""`nano2 verify`: parity with transformers as metrics, a row a layer, and a failure that names where it begins."""

import torch
from torch import Tensor

from evals.parity import LogitDifference, Parity, compare
from evals.transformers_peer import TransformersPeer
from model.errors import ArtifactError, Nano2Error, UsageError
from model.hybrid import HybridLM
from model.loading import load
from model.tokenizer import load_tokenizer
from stages.common.stage import StageContext, StageResult
from stages.verify.config import VerifyConfig


def run(config: VerifyConfig, context: StageContext) -> StageResult:
    """Rows are layers in the order they run."""
    lm = load(config.model, dtype="float32")
    ids_1T = _tokens(config, lm)
    peer = TransformersPeer.load(config.model)
    context.reporter.log(f"comparing {ids_1T.shape[1]} tokens with transformers {peer.version} in float32")
    parity = compare(lm, peer, ids_1T, tolerance=config.tolerance, decode_steps=config.decode_steps)
    return StageResult(
        metrics={"transformers": peer.version, **_metrics(parity)},
        rows=[
            {
                "layer": layer.name,
                "kind": layer.kind,
                "error": layer.error,
                "drift": layer.drift,
                "part": layer.part,
            }
            for layer in parity.layers
        ],
        notes=_notes(parity, peer),
        failure=_failure(parity, config),
    )


def _tokens(config: VerifyConfig, lm: HybridLM) -> Tensor:
    tokenizer = None
    if config.text is not None or (config.model / "tokenizer.json").is_file():
        tokenizer = load_tokenizer(config.model, lm.config.vocab_size)
    if config.text is None or tokenizer is None:
        generator = torch.Generator().manual_seed(config.seed)
        return torch.randint(lm.config.vocab_size, (1, config.tokens), generator=generator)
    try:
        text = config.text.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"cannot be read as UTF-8 text ({error})", where=str(config.text), remedy="give a text file"
        ) from error
    ids = tokenizer(text)["input_ids"][: config.tokens]
    if len(ids) < 2:
        raise UsageError(
            f"the text has {len(ids)} tokens",
            where=str(config.text),
            remedy="give a text of two tokens or more",
        )
    return torch.tensor([ids])


def _metrics(parity: Parity) -> dict[str, float | int | str]:
    metrics: dict[str, float | int | str] = {
        "tokens": parity.tokens,
        "cosine": parity.logits.cosine,
        "max_abs_difference": parity.logits.max_abs,
        "largest_logit": parity.logits.largest,
        "mean_kl": parity.logits.mean_kl,
        "top1_agreement": parity.logits.top1_agreement,
        "max_layer_error": max(layer.error for layer in parity.layers),
        "decode_max_abs_difference": parity.decode.max_abs,
    }
    if parity.their_decode is not None:
        metrics["transformers_decode_max_abs_difference"] = parity.their_decode.max_abs
    if parity.clamp is not None:
        metrics["clamp_max_abs_difference"] = parity.clamp.max_abs
        metrics["clamp_mean_kl"] = parity.clamp.mean_kl
        metrics["clamp_top1_agreement"] = parity.clamp.top1_agreement
    return metrics


def _notes(parity: Parity, peer: TransformersPeer) -> list[str]:
    notes = []
    if parity.clamp is None:
        notes.append(
            "Known difference, absent here: transformers clamps dt from below in prefill alone, "
            "and this config.json sets its bound (time_step_min) too low to matter."
        )
    else:
        notes.append(
            f"Known difference: this config.json makes transformers clamp dt at time_step_min = {peer.time_step_min:g} "
            "in prefill, not in decode, and no other reader clamps. It was compared unclamped; by itself its clamp "
            f"moves the logits by up to {parity.clamp.max_abs:.3g} (KL {parity.clamp.mean_kl:.3g} nats a token)."
        )
    if parity.their_decode is None:
        notes.append(
            "transformers cannot decode a model without attention blocks: only its full pass was compared."
        )
    elif not parity.their_decode.within(parity.tolerance):
        notes.append(
            "transformers' own decode differs from its full pass: see transformers decode max abs difference."
        )
    return notes


def _failure(parity: Parity, config: VerifyConfig) -> Nano2Error | None:
    remedy = "compare that layer's code and tensors; until it is explained, trust neither program's output"
    if layer := parity.first_divergence:
        part = f" at {layer.part}" if layer.part else ""
        what = (
            f"{layer.name} ({layer.kind}) differs from transformers{part}: relative error {layer.error:.3g}, "
            f"tolerance {parity.tolerance:g}"
        )
    elif not parity.logits.within(parity.tolerance):
        what = f"each layer agrees, yet the logits differ by {_beyond(parity.logits, parity.tolerance)}"
        remedy = "rounding adds up over the layers: see drift, and raise --tolerance if it grows evenly"
    elif not parity.decode.within(parity.tolerance):
        what = f"decoding step by step differs from one pass by {_beyond(parity.decode, parity.tolerance)}"
        remedy = "a state is not carried on as it should be: report it with this command and model"
    else:
        return None
    return ArtifactError(what, where=str(config.model), remedy=remedy)


def _beyond(difference: LogitDifference, tolerance: float) -> str:
    return f"{difference.max_abs:.3g} (tolerance {tolerance * max(1.0, difference.largest):.3g})"
