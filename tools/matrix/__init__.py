"""The tests in fresh environments; see ``__main__.py``."""
