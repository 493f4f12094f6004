"""Heads on features that are encoded once: the warm-up of stage 2, and evidence for stage 3."""
