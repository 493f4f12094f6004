"""Synthetic abdominal CTs with planted lesions, in AbdomenAtlas' layout."""
