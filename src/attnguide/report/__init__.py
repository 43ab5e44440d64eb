"""Pages about one run and about many."""
