"""What a training changes in the images it reads, keyed by (seed, step)."""
