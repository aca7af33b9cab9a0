"""Connectors to other tools: one file and one extra of the package for each tool.

`import dsi` imports none of them, and each imports its tool when it is imported itself.
"""
