"""`python -m onceforall`, which is what torchrun starts: the command `ofa`."""

from .cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
