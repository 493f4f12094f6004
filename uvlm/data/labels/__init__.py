"""Label maps: pseudo-labels and findings merged into one map per case, and judged."""
