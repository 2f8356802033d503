"""Dataset mappers."""

from collections.abc import Callable
from typing import Any

from detectron2.data.detection_utils import SizeMismatchError

from ..errors import DataError


class ErrorContextMapper:
    """Wraps a dataset mapper: errors name the image and say how to fix it.

    Args:
        mapper: detectron2's ``DatasetMapper``, or your own.
    """

    def __init__(self, mapper: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.mapper = mapper

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Map one dataset dict.

        Raises:
            DataError: the image cannot be read, or its size is not the annotated one.
        """
        try:
            return self.mapper(record)
        except SizeMismatchError as error:
            raise DataError(
                f"The size of the image {record['file_name']} differs from the annotation file "
                f"({' '.join(str(error).split())}). Correct height and width in that file."
            ) from error
        except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for broken PNG files
            raise DataError(
                f"The image {record['file_name']} cannot be read ({error}). Replace it, or remove "
                "it from the annotation file."
            ) from error
