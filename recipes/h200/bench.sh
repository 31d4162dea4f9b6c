#!/bin/sh
# Training on one H200, measured: all parts, or those that are named.
#   sh recipes/h200/bench.sh            (make bench-gpu)
#   sh recipes/h200/bench.sh fp8 memory
# A part writes its figures into RESULT beside those of the others, and on the way too: what its time limit cuts off is the rest of
# that part. An error of one does not keep the next from running.
RESULT=${RESULT:-docs/bench/gpu-training.json}
NANO2=${NANO2:-.venv/bin/nano2}
# Read when a library is imported: Triton keeps what it tuned. Gloo, beside NCCL in one process, needs some interface.
export TRITON_CACHE_AUTOTUNING=1 GLOO_SOCKET_IFNAME="${GLOO_SOCKET_IFNAME:-lo}"

failed=0
for part in ${@:-4b fp8 memory pieces}; do
  case $part in
    4b) seconds=420 ;;
    fp8) seconds=270 ;;
    *) seconds=200 ;;
  esac
  rm -rf "artifacts/bench-$part" # else it would be up to date
  echo "== $part, at most $seconds s"
  timeout --foreground --signal=INT --kill-after=20 "$seconds" $NANO2 bench train --config "recipes/h200/bench-$part.yaml" \
    -o "artifacts/bench-$part" --result "$RESULT" || failed=1
done
exit $failed
