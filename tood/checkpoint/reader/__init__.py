"""Reading the files that hold weights: zip, pickle and their contents. Nothing is executed."""
