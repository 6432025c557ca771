"""The `herocoordinator` command; also `python -m coordinator`. Imports nothing itself that takes time, so that Ctrl-C
ends a command alike while it is starting and later: with a line, and 130."""

import signal
import sys

__all__ = ["main"]

_INTERRUPTED = 130  # as shells report SIGINT


def main() -> None:
    _heed_signals()
    try:
        from coordinator.cli import main as command  # noqa: PLC0415 - most of a short command's time

        command()
    except KeyboardInterrupt:
        _end_at_once()
        print("herocoordinator: interrupted", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    finally:
        _end_at_once()


def _heed_signals() -> None:
    """Those that tell us to stop may be blocked in who has started us, which is inherited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))


def _end_at_once() -> None:
    """From now on SIGINT ends the process, as nothing is left that would be worth a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
