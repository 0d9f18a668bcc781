"""``python -m dlbridge`` is the ``dlbridge`` command."""

from dlbridge.cli import main

main()
