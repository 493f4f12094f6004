"""Label maps: pseudo-labels and findings merged into one map a case, and judged."""
