"""`uvlm overfit`: stage 1 on one CT."""
