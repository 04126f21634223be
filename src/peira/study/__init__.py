"""The question: studies, grids, seeds, and the file forms they are read from."""
