"""The verbs of the command line: one file, one function, one verb."""
