"""The command line: arguments, help pages, reports, standard streams."""
