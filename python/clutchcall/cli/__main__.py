"""`python -m clutchcall.cli`: the command line without its script."""

import sys

from clutchcall.cli import main

sys.exit(main())
