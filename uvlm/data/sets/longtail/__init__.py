"""Phantoms whose diseases and reports are as rare, small, related and silent as CT-RATE's."""
