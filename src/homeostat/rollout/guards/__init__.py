"""A file per kind of guard: observations and its part of alpha in, one verdict out."""
