"""Dataset mappers."""

from typing import Any

from detectron2.data import (
    DatasetMapper,
)
from detectron2.data.detection_utils import SizeMismatchError

from ..errors import DataError


class ErrorContextMapper:
    """A dataset mapper whose errors name the image and the mend.

    Args:
        mapper: detectron2's, or one of the user's.
    """

    def __init__(self, mapper: DatasetMapper) -> None:
        self.mapper = mapper

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Map one dataset dict; raises a DataError where its image cannot be used."""
        try:
            return self.mapper(record)
        except SizeMismatchError as error:
            raise DataError(
                f"{record['file_name']} has another size than its JSON says "
                f"({' '.join(str(error).split())}): correct width and height there"
            ) from error
        except (OSError, SyntaxError) as error:
            raise DataError(
                f"the image {record['file_name']} cannot be read ({error}): replace the file, or "
                "take it out of the JSON"
            ) from error
