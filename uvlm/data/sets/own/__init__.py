"""A user's own CTs and table of reports: layout, table, check, cases."""
