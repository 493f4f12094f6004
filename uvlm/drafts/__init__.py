"""From CTs to drafts: what `uvlm predict` reads, checks and writes."""
