"""Long runs with faults; see ``__main__.py``."""
