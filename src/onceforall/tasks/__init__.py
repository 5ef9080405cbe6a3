"""Tasks: one class per image, or any number of labels, and everything that differs between them."""
