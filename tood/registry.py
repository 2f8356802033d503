"""Looking up the parts that a config names."""

from typing import Any

from detectron2.utils.registry import Registry

from .errors import ConfigError


def get_registered(registry: Registry, name: str, key: str) -> Any:
    """Get what is registered under a name.

    Args:
        registry: where to look.
        name: the value of a config key.
        key: that key, for the message.

    Raises:
        ConfigError: nothing has that name; the message lists the names that exist.
    """
    if name not in registry:
        kind = registry._name.lower().replace("_", " ")
        names = ", ".join(sorted(found for found, _ in registry))
        raise ConfigError(
            f"Unknown {kind} {name!r} in {key}. Available: {names}. To use your own, list its file "
            "in MODEL.TOOD.CUSTOM_IMPORTS."
        )
    return registry.get(name)
