"""The mutation score; see ``__main__.py``."""
