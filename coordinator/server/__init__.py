"""A serving process: from settings to addresses, store, engine and front-ends, in one process or several."""
