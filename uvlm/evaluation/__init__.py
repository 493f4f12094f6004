"""Scores of masks, probabilities and reports, each with its baselines and interval."""
