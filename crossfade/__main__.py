"""The command line `crossfade`."""


def main() -> None:
    """Runs a command."""
    print("crossfade")
