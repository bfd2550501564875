"""What can be computed exactly: mixtures and their transitions."""
