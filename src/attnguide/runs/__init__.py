"""The life of a run: what is composed, checked, computed, stored and drawn."""
