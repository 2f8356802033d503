"""Generated parts of the documentation: ``python -m tools.docs`` writes them all."""
