"""`nano2 pretrain`: fresh weights, blended text, warmup-stable-decay (report, section 2)."""

import torch

from model.chat.special_tokens import END_OF_TURN
from model.config import HybridConfig
from model.errors import UsageError
from model.hybrid import HybridLM
from model.tokenizer import load_tokenizer
from stages.common.stage import StageContext, StageResult
from stages.common.training.batches import TrainingData
from stages.common.training.hardware import resolve_device
from stages.common.training.schedule import WarmupStableDecay
from stages.common.training.session import train_on_rows
from stages.common.training.steps import StepShape
from stages.pretrain.config import PretrainConfig


def run(config: PretrainConfig, context: StageContext) -> StageResult:
    device = resolve_device(config.device)
    context.device = str(device)
    data = TrainingData(config.data)
    steps = StepShape.of(
        config.tokens, config.batch_tokens, seq_len=data.seq_len, micro_batch=config.micro_batch
    )
    order = data.order(steps.total_sequences, config.seed, config.phase_boundaries)

    torch.manual_seed(config.seed)
    lm = HybridLM(model_shape(config, data)).to(device)
    return train_on_rows(lm, data, order, steps, schedule(config), config, context, tokenizer=data.directory)


def model_shape(config: PretrainConfig, data: TrainingData) -> HybridConfig:
    """The preset with its overrides. UsageError where it does not fit the data's tokenizer or length."""
    tokenizer = load_tokenizer(data.directory)
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": (tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END_OF_TURN)),
    }
    shape = HybridConfig.preset(config.preset, **(ids | config.shape))
    if shape.vocab_size < len(tokenizer):
        raise UsageError(
            f"the tokenizer has {len(tokenizer)} tokens, the embedding only {shape.vocab_size} rows",
            where=f"preset {config.preset}",
            remedy=f"pass --shape vocab_size={-(-len(tokenizer) // 128) * 128}",
        )
    if shape.max_position_embeddings < data.seq_len:
        raise UsageError(
            f"the data's rows have {data.seq_len} tokens, the model is declared for {shape.max_position_embeddings}",
            where=f"preset {config.preset}",
            remedy=f"pass --shape max_position_embeddings={data.seq_len}",
        )
    return shape


def schedule(config: PretrainConfig) -> WarmupStableDecay:
    return WarmupStableDecay(
        peak=config.learning_rate,
        floor=config.final_learning_rate or config.learning_rate / 100,
        total=config.tokens,
        warmup=config.warmup_tokens,
        decay=round(config.decay_fraction * config.tokens),
    )
