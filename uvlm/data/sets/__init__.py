"""The data sets: one folder each, one protocol, one table of them.

dataset        the protocol: fetch, cases, rows by table, masks
catalogue      which sets there are
selection      what is left out by design or by choice, and the record of it
lesion_set     which findings masks may be trained on
hub            files of the Hugging Face hub, verified and resumable

The folder of a set holds dataset (the set), layout (names and paths), tables (typed rows) and cases
(rows joined with CTs).
"""
