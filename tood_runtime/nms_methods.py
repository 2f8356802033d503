"""The ways to handle overlapping boxes, in a file that parsers can import without NumPy."""

#: What ``nms`` of a detector can be; see :func:`tood_runtime.suppression.suppress`.
NMS_METHODS = ("per-class", "class-agnostic", "soft", "wbf")
