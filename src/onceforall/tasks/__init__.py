"""Tasks: one class an image, or any number of labels; what differs between them."""
