"""`uvlm promote`: which registered model is the champion; our metrics as MLflow's scorers."""
