"""MMDetection 3.3.0 as the oracle for numerical comparisons."""
