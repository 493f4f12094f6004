"""Where raw data come from: the layout of every set, its tables as typed rows, and how to get it.

layout           names and paths, as published                ct_rate_layout, abdomen_atlas_layout
tables           typed rows; broken tables refused            ct_rate_tables, rexgrounding,
                                                              abdomen_atlas_tables, own_table
exclusions       what is left out by design, and why          exclusions, exclusions/*.json
fetching         files into the store, then the manifest      source, fetch_*, selection
"""
