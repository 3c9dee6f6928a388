"""``python -m skeltrain``: the command line, where its script is not on the path."""

from skeltrain.start import main

if __name__ == "__main__":
    main()
