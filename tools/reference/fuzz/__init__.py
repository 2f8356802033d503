"""Random cases on which this project is compared with MMDetection; see ``__main__.py``."""
