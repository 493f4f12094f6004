"""The networks of the paper (eq. 1-5) and the folders that hold their weights."""
