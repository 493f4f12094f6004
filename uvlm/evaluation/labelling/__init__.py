"""The labellers themselves; uvlm/evaluation/labeller.py chooses one.

phantom.py     the report grammar of the phantoms, read backwards
rules.py       patterns/*.yaml, one file a family of abnormalities, in the notation of notation.py,
               matched against what sentences.py finds asserted
"""
