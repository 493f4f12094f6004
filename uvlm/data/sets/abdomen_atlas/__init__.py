"""AbdomenAtlas 3.0 Mini: layout, tables, download, cases."""
