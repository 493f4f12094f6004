"""Leaks between splits: what a component was fitted on, near-identical images, shared patients."""
