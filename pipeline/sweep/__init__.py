"""`uvlm sweep`: many arms of one comparison, several stages at once, over DVC's graph and cache."""
