"""The guide's script: `peira clean` from a checkout, installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from peira.cli.main import main

if __name__ == "__main__":
    main(["clean", *sys.argv[1:]])
