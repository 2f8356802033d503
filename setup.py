"""Build step of the package; everything else about it is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CONFIGS = Path(__file__).parent / "configs"


class BuildWithConfigs(build_py):
    """Copies ``configs/``, where people read and edit the configs, into the package ``tood``."""

    def run(self) -> None:
        """Copy after the Python files; an editable installation reads ``configs/`` itself."""
        super().run()
        if self.editable_mode:
            return
        for path in sorted(CONFIGS.rglob("*.yaml")):
            target = Path(self.build_lib, "tood", "configs", path.relative_to(CONFIGS))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


setup(cmdclass={"build_py": BuildWithConfigs})
