"""What a notebook does with explanations and curves: look at them, keep them, compare them."""
