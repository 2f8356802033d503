"""The report about a training or an evaluation: one HTML page without external files."""
