"""``python -m skelconv``: the command line, where its script is not on the path."""

from skelconv.start import main

if __name__ == "__main__":
    main()
