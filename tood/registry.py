"""Looking names from the config up in a registry."""

from typing import Any

from detectron2.utils.registry import Registry

from .errors import ConfigError


def get_registered(registry: Registry, name: str, key: str) -> Any:
    """What is registered as ``name``.

    Args:
        registry: where to look.
        name: the value of a config key.
        key: that key, for the message.

    Raises:
        ConfigError: nothing has that name; the message tells those that exist.
    """
    if name not in registry:
        names = sorted(found for found, _ in registry)
        raise ConfigError(
            f"{key} is {name!r}, and there is no such {registry._name.lower()}: there are "
            f"{', '.join(names)}. One of your own has to be imported: MODEL.TOOD.CUSTOM_IMPORTS"
        )
    return registry.get(name)
