"""Terms of the loss: one per file, registered by name; `make_objectives` builds a list.

Nothing is imported here, so that the options can be read without torch.
"""
