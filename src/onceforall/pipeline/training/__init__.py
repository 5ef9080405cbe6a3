"""What `ofa train` and `ofa import` are made of."""
