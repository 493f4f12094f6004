"""A page on this computer: upload a CT, watch its draft being made, look at the evidence."""
