"""Named shapes. The family's are the published ones; the small ones follow its design rule.

The rule (Nemotron-H report): about 8% attention blocks, evenly spread; first block Mamba, last block MLP; attention right
before an MLP; the rest shared evenly between Mamba and MLP.
"""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "nano2-12b": {
        "vocab_size": 131072,
        "hidden_size": 5120,
        "pattern": "M-M-M-M*-" + "M-M-M-M*-" * 5 + "M-M-M-M-",
        "num_attention_heads": 40,
        "intermediate_size": 20480,
        "mamba_head_dim": 80,
    },
    "nano2-9b": {
        "vocab_size": 131072,
        "hidden_size": 4480,
        "pattern": "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
        "num_attention_heads": 40,
        "intermediate_size": 15680,
        "mamba_head_dim": 80,
    },
    # The 12B after the cut of its depth, with the blocks that the 9B has.
    "nano2-12b-56": {
        "vocab_size": 131072,
        "hidden_size": 5120,
        "pattern": "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
        "num_attention_heads": 40,
        "intermediate_size": 20480,
        "mamba_head_dim": 80,
    },
    "nemotron-h-4b": {
        "vocab_size": 131072,
        "hidden_size": 3072,
        "pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
        "intermediate_size": 12288,
        "mamba_num_heads": 112,
    },
    "nemotron-h-8b": {
        "vocab_size": 131072,
        "hidden_size": 4096,
        "pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
        "intermediate_size": 21504,
    },
    # About 25M parameters: what an H200 trains in minutes.
    "mini-25m": {
        "vocab_size": 12288,
        "hidden_size": 384,
        "pattern": "M-M-M*-M-M-M*-M-",
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "intermediate_size": 1536,
        "mamba_num_heads": 16,
        "mamba_head_dim": 48,
        "ssm_state_size": 64,
        "n_groups": 2,
        "chunk_size": 64,
        "max_position_embeddings": 8192,
    },
    # About 8M parameters: the fixed shape of `nano2 bench cpu`.
    "mini-8m": {
        "vocab_size": 4096,
        "hidden_size": 256,
        "pattern": "M-M-M*-M-M-M-",
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "intermediate_size": 1024,
        "mamba_num_heads": 16,
        "mamba_head_dim": 32,
        "ssm_state_size": 64,
        "n_groups": 2,
        "chunk_size": 64,
        "max_position_embeddings": 4096,
    },
    # About 3M parameters: what the CPU recipes train in minutes.
    "mini-3m": {
        "vocab_size": 4096,
        "hidden_size": 160,
        "pattern": "M-M-M*-M-M-M-",
        "num_attention_heads": 5,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "intermediate_size": 640,
        "mamba_num_heads": 10,
        "mamba_head_dim": 32,
        "ssm_state_size": 32,
        "n_groups": 1,
        "chunk_size": 64,
        "max_position_embeddings": 2048,
    },
    # A few thousand parameters: one block of each kind for smoke tests.
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 32,
        "pattern": "M-M*-",
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "intermediate_size": 64,
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "ssm_state_size": 16,
        "n_groups": 2,
        "chunk_size": 16,
        "max_position_embeddings": 512,
    },
}
"""Field values of `HybridConfig` by preset name."""
