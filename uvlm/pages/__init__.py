"""Pages that people look at: the summary of a run, its figures, coloured reports."""
