"""Synthetic chest CTs with planted abnormalities and reports written from the planted truth."""
