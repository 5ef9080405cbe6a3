"""What `ofa specialise` and `ofa bundle` are made of, from the choice of a network to what its files were measured to do."""
