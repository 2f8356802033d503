"""The version of this package; setuptools reads it statically (pyproject.toml)."""

__version__ = "0.1.0"
