"""The three trainings: one loop, three objectives."""
