"""One forward and backward pass of a network, with the attention of every layer."""
