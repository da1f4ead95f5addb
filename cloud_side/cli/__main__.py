"""`python -m cloud_side.cli`."""

import sys

from cloud_side.cli import main

sys.exit(main())
