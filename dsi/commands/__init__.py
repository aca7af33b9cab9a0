"""The commands of `dsi`: one file and one function per command."""
