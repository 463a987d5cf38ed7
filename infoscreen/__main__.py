"""``python -m infoscreen`` is the ``infoscreen`` command."""

from infoscreen.cli import main

if __name__ == "__main__":
    main()
