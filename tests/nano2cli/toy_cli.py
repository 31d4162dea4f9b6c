"""`python -m tests.nano2cli.toy_cli ...` is `nano2` with the toy stages in its registry."""

from nano2cli import registry

registry.COMMANDS = (
    *registry.COMMANDS,
    registry.Command("toy", "Fold numbers.", "Toys", "tests.nano2cli.toy:STAGE"),
    registry.Command("simple", "Fold numbers at once.", "Toys", "tests.nano2cli.toy:SIMPLE"),
    registry.Command("show", "Show lines.", "Toys", "tests.nano2cli.toy:SHOW"),
)

if __name__ == "__main__":
    from nano2cli.app import main

    main()
