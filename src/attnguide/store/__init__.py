"""What a run keeps on disk: tables, maps, provenance; whole or absent."""
