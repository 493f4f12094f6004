"""`uvlm plan`: what a profile will need and cost, and what of it is missing, before a download."""
