"""``python -m tood``, the same as ``tood``.

Python imports the package first, so this one needs torch and detectron2 even for ``--help``.
"""

import sys

from tood_runtime.cli import main

if __name__ == "__main__":
    sys.exit(main())
