"""`uvlm smoke`: every stage of a profile, really run, on a dozen CTs and at the smallest size."""
