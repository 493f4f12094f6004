"""File formats of CTs: each module turns bytes that were verified into a `StoredImage`."""
