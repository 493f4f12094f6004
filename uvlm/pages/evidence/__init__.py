"""The evidence page: one CT, its draft, and why each sentence was written, in one offline file."""
