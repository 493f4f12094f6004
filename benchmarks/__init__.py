"""Campaigns that measure the claims of the README; each is one command and one page of reports/."""
