"""Numbers and figures computed from a detector's predictions."""
