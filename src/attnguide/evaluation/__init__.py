"""How faithful an explanation is to its model."""
