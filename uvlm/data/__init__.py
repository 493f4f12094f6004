"""From files as they are published to arrays that a network can read."""
