"""FP8 products (E4M3) for the linear layers that can take them: which those are, the quantiser, and the library's kernels."""
