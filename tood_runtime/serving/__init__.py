"""An HTTP server for a detector: ``tood serve`` and ``python -m tood_runtime.serving``.

Needs the packages of the extra ``serve``, which are imported when an app is made.
"""

from .app import create_app
from .settings import ServingSettings

__all__ = ["ServingSettings", "create_app"]
