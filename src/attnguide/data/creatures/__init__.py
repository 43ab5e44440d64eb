"""The embedded world: drawn animals with exact masks of bodies and parts."""
