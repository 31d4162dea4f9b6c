# The chain of `make demo` in the report's order: a target a stage, whose file is the artifact's nano2.json, made again when its recipe or
# what it reads is newer. A command whose artifact is there already, of the same settings and inputs, only touches it; one that was
# killed continues where it was, and comes to the same content.
#
#   $(RECIPES)/NAME.yaml -> $(DEMO)/NAME

DEMO ?= artifacts/demo
RECIPES ?= recipes/demo
REPORT ?= artifacts/report.html
JOBS ?= 2
# The number of threads is a part of the result: sums are split by thread. One each, and two targets side by side.
CHAIN = $(MAKE) --no-print-directory -j$(JOBS) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

MODELS := base base-long sft1 sft2 sft3 pruned distilled dpo grpo repaired rlhf merged
MEASURED := base-long sft1 sft2 sft3 pruned distilled dpo grpo repaired rlhf merged
EVALUATIONS := $(MEASURED:%=$(DEMO)/%-eval/nano2.json)
PARTS := tokenizer text longqa long errands sloppy instructions reward $(MODELS)
ARTIFACTS := $(PARTS:%=$(DEMO)/%/nano2.json) $(EVALUATIONS)
DEMO_TEXT := $(wildcard recipes/cpu/data/*.jsonl.gz recipes/demo/data/*.jsonl.gz)

# An artifact is whole or absent: make must not delete one whose command was killed behind its last step.
.PRECIOUS: $(ARTIFACTS)
.PHONY: chain

# Lists what lies on the longest path first, so that it is begun first.
chain: $(PARTS:%=$(DEMO)/%/nano2.json) $(EVALUATIONS) $(REPORT)

$(DEMO)/tokenizer/nano2.json: $(RECIPES)/tokenizer.yaml $(DEMO)/errands/nano2.json $(DEMO)/instructions/nano2.json $(DEMO_TEXT)
	$(NANO2) data tokenizer --config $< -o $(@D) --overwrite

$(DEMO)/text/nano2.json: $(RECIPES)/text.yaml $(DEMO)/tokenizer/nano2.json $(DEMO_TEXT)
	$(NANO2) data prepare --config $< -o $(@D) --overwrite

$(DEMO)/base/nano2.json: $(RECIPES)/base.yaml $(DEMO)/text/nano2.json
	$(NANO2) pretrain --config $< -o $(@D) --overwrite

$(DEMO)/longqa/nano2.json: $(RECIPES)/longqa.yaml $(DEMO)/tokenizer/nano2.json $(DEMO_TEXT)
	$(NANO2) data longqa --config $< -o $(@D) --overwrite

$(DEMO)/long/nano2.json: $(RECIPES)/long.yaml $(DEMO)/tokenizer/nano2.json $(DEMO)/longqa/nano2.json $(DEMO_TEXT)
	$(NANO2) data prepare --config $< -o $(@D) --overwrite

$(DEMO)/base-long/nano2.json: $(RECIPES)/base-long.yaml $(DEMO)/base/nano2.json $(DEMO)/long/nano2.json
	$(NANO2) extend-context --config $< -o $(@D) --overwrite

$(DEMO)/errands/nano2.json $(DEMO)/sloppy/nano2.json $(DEMO)/instructions/nano2.json: $(DEMO)/%/nano2.json: $(RECIPES)/%.yaml
	$(NANO2) data synth --config $< -o $(@D) --overwrite

$(DEMO)/sft1/nano2.json: $(RECIPES)/sft1.yaml $(DEMO)/base-long/nano2.json $(DEMO)/errands/nano2.json $(DEMO)/instructions/nano2.json
	$(NANO2) sft --config $< -o $(@D) --overwrite

$(DEMO)/sft2/nano2.json: $(RECIPES)/sft2.yaml $(DEMO)/sft1/nano2.json $(DEMO)/sloppy/nano2.json
	$(NANO2) sft --config $< -o $(@D) --overwrite

$(DEMO)/sft3/nano2.json: $(RECIPES)/sft3.yaml $(DEMO)/sft2/nano2.json $(DEMO)/sloppy/nano2.json $(DEMO)/instructions/nano2.json
	$(NANO2) sft --config $< -o $(@D) --overwrite

$(DEMO)/pruned/nano2.json: $(RECIPES)/pruned.yaml $(DEMO)/sft3/nano2.json $(DEMO)/text/nano2.json
	$(NANO2) prune --config $< -o $(@D) --overwrite

$(DEMO)/distilled/nano2.json: $(RECIPES)/distilled.yaml $(DEMO)/pruned/nano2.json $(DEMO)/sft3/nano2.json \
		$(DEMO)/long/nano2.json $(DEMO)/sloppy/nano2.json $(DEMO)/instructions/nano2.json
	$(NANO2) distill --config $< -o $(@D) --overwrite

$(DEMO)/dpo/nano2.json: $(RECIPES)/dpo.yaml $(DEMO)/distilled/nano2.json $(DEMO)/sloppy/nano2.json
	$(NANO2) dpo --config $< -o $(@D) --overwrite

$(DEMO)/grpo/nano2.json: $(RECIPES)/grpo.yaml $(DEMO)/dpo/nano2.json $(DEMO)/sloppy/nano2.json $(DEMO)/errands/nano2.json
	$(NANO2) grpo --config $< -o $(@D) --overwrite

$(DEMO)/repaired/nano2.json: $(RECIPES)/repaired.yaml $(DEMO)/grpo/nano2.json $(DEMO)/sft1/nano2.json \
		$(DEMO)/long/nano2.json $(DEMO)/instructions/nano2.json
	$(NANO2) distill --config $< -o $(@D) --overwrite

$(DEMO)/reward/nano2.json: $(RECIPES)/reward.yaml $(DEMO)/sft1/nano2.json $(DEMO)/instructions/nano2.json
	$(NANO2) reward --config $< -o $(@D) --overwrite

$(DEMO)/rlhf/nano2.json: $(RECIPES)/rlhf.yaml $(DEMO)/repaired/nano2.json $(DEMO)/reward/nano2.json $(DEMO)/instructions/nano2.json
	$(NANO2) grpo --config $< -o $(@D) --overwrite

$(DEMO)/merged/nano2.json: $(RECIPES)/merged.yaml $(DEMO)/repaired/nano2.json $(DEMO)/rlhf/nano2.json \
		$(DEMO)/errands/nano2.json $(DEMO)/instructions/nano2.json
	$(NANO2) merge --config $< -o $(@D) --overwrite

$(EVALUATIONS): $(DEMO)/%-eval/nano2.json: $(RECIPES)/eval.yaml $(DEMO)/%/nano2.json $(DEMO)/errands/nano2.json $(DEMO)/instructions/nano2.json
	$(NANO2) eval --config $< -m $(DEMO)/$* -o $(@D) --overwrite

$(DEMO)/comparison.json: $(DEMO)/distilled-eval/nano2.json $(DEMO)/merged-eval/nano2.json
	$(NANO2) compare --json $(^D) > $@.tmp
	mv $@.tmp $@

# A question to the last model, through `nano2 serve` and the openai client.
$(DEMO)/answer.json: $(DEMO)/merged/nano2.json $(DEMO)/errands/nano2.json
	$(BIN)/python -m stages.common.chain.ask $(<D) --chats $(DEMO)/errands/test.jsonl -o $@

$(REPORT): $(ARTIFACTS) $(DEMO)/comparison.json $(DEMO)/answer.json
	$(BIN)/python -m stages.common.chain report $(DEMO) -o $@
