"""`uvlm rehearse`: the graph of a profile at the paper's size, on CTs made here and a hub of our own."""
