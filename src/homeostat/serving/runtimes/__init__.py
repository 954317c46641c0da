"""One file per format of a model; each is imported when a model of it is loaded."""
