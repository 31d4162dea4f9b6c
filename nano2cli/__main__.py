"""`nano2` and `python -m nano2cli`."""

from nano2cli.app import main

if __name__ == "__main__":
    main()
