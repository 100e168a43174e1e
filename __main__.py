"""`python -m splitpoint` is the command `splitpoint`."""

from .cli import main

if __name__ == "__main__":
    main()
