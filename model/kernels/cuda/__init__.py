"""Kernels for NVIDIA GPUs. Nothing here is imported before `model.kernels.choice` has found what it needs."""
