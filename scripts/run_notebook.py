"""Run a notebook without a browser, and keep what it makes: ``make run``.

Writes the executed notebook and an HTML copy of it into the output folder, beside the pictures the
notebook itself saves there.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path

import nbclient
import nbconvert
import nbformat


def run(notebook: Path, output: Path) -> int:
    output.mkdir(parents=True, exist_ok=True)
    (output / ".writable").touch()  # before the work, not after
    (output / ".writable").unlink()
    pages = nbformat.read(notebook, as_version=4)
    cells = [cell for cell in pages.cells if cell.cell_type == "code"]
    began, wall = time.monotonic(), time.time()

    def started(cell, cell_index) -> None:
        if cell.cell_type == "code":
            first = next((line for line in cell.source.splitlines() if line.strip()), "")
            number = cells.index(cell) + 1
            print(f"[{time.monotonic() - began:4.0f} s] cell {number} of {len(cells)}: {first}")

    os.environ["NST_OUTPUT"] = str(output.resolve())  # where the notebook puts its pictures
    client = nbclient.NotebookClient(
        pages,
        timeout=1800,
        kernel_name="python3",
        resources={"metadata": {"path": str(notebook.parent)}},
        on_cell_start=started,
    )
    # Its warning that it speaks TCP is about shared machines, and reads like a failure here.
    client.extra_arguments = ["--IPKernelApp.log_level=40"]
    failed = None
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        failed = error
    executed = output / notebook.name
    nbformat.write(pages, executed)
    page = executed.with_suffix(".html")
    page.write_text(nbconvert.HTMLExporter().from_notebook_node(pages)[0], encoding="utf-8")
    if failed is not None:
        print(failed, file=sys.stderr)
        print(f"a cell failed; the notebook up to there: {executed}", file=sys.stderr)
        return 1
    made = [p for p in sorted(output.iterdir()) if p.stat().st_mtime >= wall - 1]
    said = "\n".join(o.get("text", "") for c in cells for o in c.get("outputs", ()))
    network = re.search(r"^network: (.*)$", said, re.MULTILINE)
    print(f"\ndone in {time.monotonic() - began:.0f} s")
    print(f"network: {network.group(1) if network else 'not stated'}")
    for path in made:
        print(f"  {os.path.relpath(path)}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--output", type=Path, default=Path("output"))
    args = parser.parse_args()
    if not args.notebook.is_file():
        parser.error(f"there is no notebook {args.notebook}")
    try:
        return run(args.notebook, args.output)
    except OSError as error:
        print(f"cannot write into {args.output}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
