"""Records of runs on disk, and how MLflow is told of them."""
