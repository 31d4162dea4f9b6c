"""FP8 products (E4M3) for linear layers: which layers take them, the quantizer, and the kernels of a GPU."""
