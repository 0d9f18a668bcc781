"""``python -m dlbridge.cli``."""

from dlbridge.cli import main

main()
