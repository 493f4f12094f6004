"""Using trained networks: features, masks, probabilities and reports."""
