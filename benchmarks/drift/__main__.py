"""`python -m benchmarks.drift [--quick | --full] [--docs] [--json FILE]`"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.drift import cells, report

ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-drift", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="4 minutes (default)")
    size.add_argument("--full", action="store_true", help="17 minutes at most")
    parser.add_argument("--only", default="", help="names of tools, with commas between")
    parser.add_argument("--docs", action="store_true", help="rewrite docs/benchmarks.md's section")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "out" / "bench-drift.json")
    given = parser.parse_args()
    plan = cells.FULL if given.full else cells.QUICK
    only = [name for name in given.only.split(",") if name]
    given.json.parent.mkdir(parents=True, exist_ok=True)

    def keep(found: cells.Found) -> None:
        given.json.write_text(json.dumps(found, indent=1))

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="bench-drift-") as folder:
        found = cells.run(plan, only, Path(folder), tell, keep)
    keep(found)
    text = report.markdown(found, plan)
    print(text)
    if given.docs:
        report.write(ROOT / "docs" / "benchmarks.md", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
