"""One thread for torch: tests share the machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
