"""Checks of config values before anything is built, trained or evaluated.

Each subject has a table of rules, one per key, and a few checks of keys that depend on each other.
"""

from .data import validate_views
from .keys import validate_model_keys
from .model import validate_model
from .run import validate_batches, validate_solver, validate_test
from .solver import validate_warmup
from .values import validate_values

__all__ = [
    "validate_batches",
    "validate_model",
    "validate_model_keys",
    "validate_solver",
    "validate_test",
    "validate_values",
    "validate_views",
    "validate_warmup",
]
