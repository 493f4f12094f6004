"""How much memory each stage will need, estimated before its first step, and whether it fits."""
