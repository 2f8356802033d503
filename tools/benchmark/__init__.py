"""Speed and memory of this project next to reference implementations; see __main__.py."""
