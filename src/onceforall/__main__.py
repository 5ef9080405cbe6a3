"""`python -m onceforall`, which is what torchrun starts: the command `ofa`."""

from .cli import main

if __name__ == "__main__":
    main()
