#!/bin/sh
# Install mamba-ssm, causal-conv1d and triton into a folder of their own, for tests/peers/test_mamba_ssm.py.
#
#   tests/peers/install_mamba_ssm.sh [DIR]        default: .peers/mamba_ssm; python: $PYTHON, default .venv/bin/python
#
# Never into the environment itself: transformers takes mamba-ssm's GPU kernels wherever it can import them, CPU included.
# The CUDA extensions are left out (no compiler, no GPU needed): Triton's interpreter runs the kernels.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
target=${1:-$root/.peers/mamba_ssm}
python=${PYTHON:-$root/.venv/bin/python}
packages="mamba-ssm==2.3.2.post1 causal-conv1d==1.7.0 triton==3.9.0 einops==0.8.2"

if [ "$(cat "$target/installed" 2>/dev/null)" = "$packages" ]; then
    exit 0
fi
rm -rf "$target.part"
MAMBA_SKIP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE \
CAUSAL_CONV1D_SKIP_CUDA_BUILD=TRUE CAUSAL_CONV1D_FORCE_BUILD=TRUE \
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --target "$target.part" $packages
printf '%s\n' "$packages" > "$target.part/installed"
rm -rf "$target"
mv "$target.part" "$target"
