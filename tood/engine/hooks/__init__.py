"""Training hooks."""

from .phase import PhaseHook

__all__ = ["PhaseHook"]
