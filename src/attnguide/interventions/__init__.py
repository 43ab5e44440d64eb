"""What happens to a model when attention or pixels are changed by their gradients."""
