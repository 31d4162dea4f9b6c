#!/bin/sh
# The small base of recipes/h200/base.yaml, from the texts in corpus/ to artifacts/h200/base. What is there already stays.
#   sh recipes/h200/base.sh             (make h200-base)
#   sh recipes/h200/base.sh data        tokenizer and packed text alone, which take no GPU
set -e
NANO2=${NANO2:-.venv/bin/nano2}

$NANO2 data tokenizer --config recipes/h200/tokenizer.yaml -o artifacts/h200/tokenizer
$NANO2 data prepare --config recipes/h200/text.yaml -o artifacts/h200/text
if [ "$1" != data ]; then
  $NANO2 pretrain --config recipes/h200/base.yaml -o artifacts/h200/base
fi
