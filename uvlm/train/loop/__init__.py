"""The one training loop: steps, optimiser, stopping and continuing, faults, several GPUs."""
