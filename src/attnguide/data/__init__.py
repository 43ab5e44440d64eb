"""Images to explain: the procedural creatures, ImageNet folders, sample pictures."""
