"""`uvlm rehearse`: the graph of a profile at its real sizes, on CTs made here."""
