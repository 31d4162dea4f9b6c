# The report's chain, run from the repository's root: the 12B from text to the aligned model, the 9B that comes of it, and the 9B base model.
# What only you can bring lies in data/: docs/nano2.md says what it is. `make plan-nano2` plans every line.
set -e

# The 12B base model
nano2 data tokenizer --config recipes/nano2/tokenizer.yaml -o artifacts/nano2-tokenizer
nano2 data prepare --config recipes/nano2/prepare.yaml -o artifacts/nano2-text-8k
nano2 pretrain --config recipes/nano2/pretrain.yaml -o artifacts/nano2-12b-pretrained
nano2 data prepare --config recipes/nano2/prepare-phase3.yaml --seq-len 512Ki -o artifacts/phase3-512k
nano2 data longqa --config recipes/nano2/longqa.yaml -o artifacts/nano2-longqa
nano2 data prepare --config recipes/nano2/prepare-longqa.yaml -o artifacts/longqa-512k
nano2 extend-context --config recipes/nano2/extend-context.yaml -o artifacts/nano2-12b-base

# The aligned 12B. Which of its three kinds of reinforcement follows which is ours
nano2 sft --config recipes/nano2/sft1.yaml -o artifacts/nano2-12b-sft1
nano2 sft --config recipes/nano2/sft2.yaml -o artifacts/nano2-12b-sft2
nano2 sft --config recipes/nano2/sft3.yaml -o artifacts/nano2-12b-sft3
nano2 dpo --config recipes/nano2/workbench-dpo.yaml -o artifacts/nano2-12b-dpo
nano2 grpo --config recipes/nano2/ifeval-rl.yaml -o artifacts/nano2-12b-ifeval-rl
nano2 data convert --format helpsteer3 -d helpsteer3_preference_train.jsonl -o artifacts/helpsteer3
nano2 reward --config recipes/nano2/reward.yaml -o artifacts/nano2-reward
nano2 grpo --config recipes/nano2/rlhf.yaml -o artifacts/nano2-12b-rlhf
nano2 merge --config recipes/nano2/merge.yaml -m artifacts/nano2-12b-dpo -m artifacts/nano2-12b-rlhf --preset nano2-12b -o artifacts/nano2-12b-aligned

# The 9B: first the search that found its shape, then the way to it
nano2 data prepare --config recipes/nano2/prepare-phase3.yaml --seq-len 8Ki -o artifacts/phase3-8k
nano2 prune --config recipes/nano2/prune.yaml -o artifacts/nano2-9b-searched
nano2 prune --config recipes/nano2/prune-depth.yaml -o artifacts/nano2-12b-56
nano2 distill --config recipes/nano2/distill-depth.yaml -o artifacts/nano2-12b-56-distilled
nano2 prune --config recipes/nano2/prune-width.yaml -o artifacts/nano2-9b-pruned
nano2 distill --config recipes/nano2/distill-width-8k.yaml -o artifacts/nano2-9b-8k
nano2 data prepare --config recipes/nano2/prepare-phase3.yaml --seq-len 48Ki -o artifacts/phase3-49k
nano2 distill --config recipes/nano2/distill-49k.yaml -o artifacts/nano2-9b-49k
nano2 data prepare --config recipes/nano2/prepare-phase3.yaml --seq-len 256Ki -o artifacts/phase3-262k
nano2 distill --config recipes/nano2/distill-262k.yaml -o artifacts/nano2-9b-262k
nano2 dpo --config recipes/nano2/workbench-dpo.yaml -m artifacts/nano2-9b-262k --preset nano2-9b -o artifacts/nano2-9b-dpo
nano2 grpo --config recipes/nano2/grpo-workbench.yaml -o artifacts/nano2-9b-grpo
nano2 distill --config recipes/nano2/distill-repair.yaml -o artifacts/nano2-9b-repaired
nano2 grpo --config recipes/nano2/rlhf.yaml -m artifacts/nano2-9b-repaired --preset nano2-9b -o artifacts/nano2-9b-rlhf
nano2 merge --config recipes/nano2/merge.yaml -o artifacts/nano2-9b

# The 9B base model
nano2 prune --config recipes/nano2/prune-depth.yaml -m artifacts/nano2-12b-base -d artifacts/phase3-8k -o artifacts/nano2-12b-base-56
nano2 distill --config recipes/nano2/distill-base-depth.yaml -o artifacts/nano2-12b-base-56-distilled
nano2 prune --config recipes/nano2/prune-width.yaml -m artifacts/nano2-12b-base-56-distilled -d artifacts/phase3-8k -o artifacts/nano2-9b-base-pruned
nano2 distill --config recipes/nano2/distill-base-width.yaml -o artifacts/nano2-9b-base-8k
nano2 distill --config recipes/nano2/distill-base-512k.yaml -o artifacts/nano2-9b-base
