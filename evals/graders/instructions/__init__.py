"""The 25 checkable instructions of IFEval (Zhou et al. 2023, arXiv 2311.07911)."""
