"""Detection on images, for people."""
