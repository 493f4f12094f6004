"""One thin script per DVC stage, the MLflow tracker and the `uvlm` command."""
