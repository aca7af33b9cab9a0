"""An index in the tools that its users already have: one file, one tool, one extra of the package.

`import dsi` imports none of these, and each imports its tool when it is imported itself.
"""
