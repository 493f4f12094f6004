"""`uvlm own`: look at a user's CTs and reports, and write a profile that fits this computer."""
