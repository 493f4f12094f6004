"""What each stage will need, before its first step: memory, arithmetic, bytes on disk."""
