"""Where in a CT a probability comes from, and which training cases look alike."""
