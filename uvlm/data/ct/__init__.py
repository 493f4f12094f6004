"""CTs: files read strictly, one grid, one geometry."""
