"""The labellers themselves; uvlm/evaluation/labeller.py chooses one.

phantom.py         the report grammar of the phantoms, read backwards
longtail.py        the same for the reports of `longtail`
rules.py           patterns/*.yaml, one file per family of abnormalities, in the notation of
                   notation.py, matched against what headings.py, sentences.py and denials.py
                   leave of a report as asserted
radbert.py         CT-RATE's official classifier; radbert_import.py converts its weights
llm.py             a language model, asked llm_prompt.txt through chat.py
"""
