"""The two sides of the comparison, with the same weights: this core, and transformers' NemotronHForCausalLM.

Shapes: B batch, T tokens, n new tokens.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from model.config import HybridConfig
from model.hybrid import HybridLM
from model.inference.generation import Generator, Request
from model.loss import next_token_labels, token_cross_entropy
from stages.bench.cpu.sweep import PRESET, DecodeSetting, TrainSetting
from stages.bench.peer import transformers_model

SEED = 0
LEARNING_RATE = 1e-4
MAX_GRAD_NORM = 1.0


def bench_config() -> HybridConfig:
    """The fixed shape of the comparison."""
    return HybridConfig.preset(PRESET)


def random_ids(batch: int, length: int) -> Tensor:
    """Token ids [B, T], the same ones in every process."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randint(bench_config().vocab_size, (batch, length), generator=generator)


def build_nano2() -> HybridLM:
    torch.manual_seed(SEED)
    return HybridLM(bench_config())


def build_transformers(attention: str = "sdpa") -> nn.Module:
    """transformers' model with the weights of `build_nano2`, every one of them."""
    return transformers_model(build_nano2(), attention)


@dataclass(frozen=True)
class Trainer:
    """A model and its training step."""

    model: nn.Module
    loss: Callable[[], Tensor]
    optimizer: torch.optim.Optimizer

    def step(self) -> tuple[Tensor, Tensor]:
        """Forward, loss, backward, clip, fused AdamW, zero_grad. Returns the loss and the gradient norm before clipping."""
        loss = self.loss()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach(), norm


def build_trainer(setting: TrainSetting) -> Trainer:
    """float32 masters on either side; bfloat16 means bfloat16 products, each side in its own way."""
    ids_BT = random_ids(setting.batch, setting.length)
    half = setting.precision == "bfloat16"
    model: Any
    if setting.side == "nano2":
        model = build_nano2().train()
        model.compute_dtype = torch.bfloat16 if half else None

        def loss() -> Tensor:
            losses = token_cross_entropy(
                model.hidden_states(ids_BT), model.lm_head.weight, next_token_labels(ids_BT)
            )
            return losses.total / losses.count
    else:
        model = build_transformers(setting.attention).train()

        def loss() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
                return model(ids_BT, labels=ids_BT, use_cache=False).loss

    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), fused=True)
    return Trainer(model, loss, optimizer)


Decoder = Callable[[Tensor, int], Tensor]
"""(prompt [1, T], n) -> the n tokens [1, n] that follow, greedily, never stopping early."""


def build_decoder(setting: DecodeSetting) -> Decoder:
    dtype = getattr(torch, setting.precision)
    if setting.side == "nano2":
        return _decode_nano2(build_nano2().eval().to(dtype))
    model = build_transformers().eval().to(dtype)
    return _decode_by_loop(model) if setting.method == "loop" else _decode_by_generate(model)


def _decode_nano2(lm: HybridLM) -> Decoder:
    generator = Generator(lm)

    def decode(prompt_1T: Tensor, count: int) -> Tensor:
        (completion,) = generator.run([Request(prompt_1T[0].tolist(), max_tokens=count)])
        return torch.tensor([completion.token_ids])

    return decode


def _decode_by_generate(model: Any) -> Decoder:
    @torch.inference_mode()
    def decode(prompt_1T: Tensor, count: int) -> Tensor:
        greedy = GenerationConfig(
            max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0, use_cache=True
        )
        out = model.generate(prompt_1T, attention_mask=torch.ones_like(prompt_1T), generation_config=greedy)
        return out[:, prompt_1T.shape[1] :]

    return decode


def _decode_by_loop(model: Any) -> Decoder:
    """What `generate` does, without its bookkeeping."""

    @torch.inference_mode()
    def decode(prompt_1T: Tensor, count: int) -> Tensor:
        out = model(prompt_1T, use_cache=True)
        tokens = [out.logits[:, -1].argmax(-1, keepdim=True)]
        for _ in range(count - 1):
            out = model(tokens[-1], past_key_values=out.past_key_values, use_cache=True)
            tokens.append(out.logits[:, -1].argmax(-1, keepdim=True))
        return torch.cat(tokens, dim=1)

    return decode
