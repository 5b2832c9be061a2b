"""Write the requirements of the extra `docs` to stdout; pip-compile itself would add those of tui-lab to them."""

import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"

if __name__ == "__main__":
    extras = tomllib.loads(PROJECT.read_text("utf-8"))["project"]["optional-dependencies"]
    sys.stdout.writelines(f"{requirement}\n" for requirement in extras["docs"])
