"""CT-RATE and ReXGroundingCT: layout, tables, download, cases."""
