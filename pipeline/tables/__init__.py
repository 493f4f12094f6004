"""`uvlm table`: the paper's tables with our numbers beside the published ones."""
