"""critwin."""
