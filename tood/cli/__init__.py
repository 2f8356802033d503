"""The programs behind the console command ``tood``."""
