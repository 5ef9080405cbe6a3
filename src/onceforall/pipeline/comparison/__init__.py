"""`ofa compare`: an elastic network against fixed ones."""
