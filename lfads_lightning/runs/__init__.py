"""The folder of a run: its files, its lock, copies of it in a store."""
