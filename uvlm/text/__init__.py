"""Reports, abnormality names and the tokenizer."""
