"""The folder of an index: its versions, their files and the stored corpus."""
