"""Arms: the rows of the paper's tables as parameters; conf/arm/ says what each row means."""
