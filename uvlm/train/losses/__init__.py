"""The three objectives and their losses."""
