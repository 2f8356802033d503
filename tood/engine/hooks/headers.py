"""Looks at the training images while training runs."""

from detectron2.config import CfgNode
from detectron2.engine import HookBase

from ...data.header_checks import BackgroundHeaderCheck, start_header_check


class HeaderCheckHook(HookBase):
    """Checks the headers of the training images in the background, and warns about bad ones.

    It starts after the first iteration: the workers of the data loader are forked before that, and
    a process should not be forked while it has threads.

    Args:
        cfg: the config, after `tood.data.setup_datasets`.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self._cfg = cfg
        self._check: BackgroundHeaderCheck | None = None

    def after_step(self) -> None:
        """Start the check after the first iteration."""
        if self._check is None:
            self._check = start_header_check(self._cfg)

    def after_train(self) -> None:
        """End the check."""
        if self._check is not None:
            self._check.stop()
