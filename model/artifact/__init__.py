"""An artifact on disk: written whole or not at all, hashed, and carrying what made it.

| module | holds |
|---|---|
| `staging` | directories and small files that appear at once or not at all |
| `hashing` | the sha256 of a file, the content hash of an artifact |
| `safetensors_header`, `sharding`, `weights`, `streaming` | safetensors checkpoints, in one file or in shards |
| `provenance`, `environment`, `card` | nano2.json, what it says of the machine, the model card made from it |
| `lineage`, `replay` | the chain of parents, and the commands that rebuild it |
| `summary` | what `nano2 inspect` shows |

Nothing here imports torch until a tensor is read or written.
"""
