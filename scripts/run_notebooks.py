"""Run notebooks without a browser, and keep what they make: ``make run``.

Writes each executed notebook into the output folder, beside the pictures that the notebooks
themselves save there, and the site of all of them into its folder site. With --inplace the
notebooks keep the outputs themselves: ``make notebooks``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
import time
from pathlib import Path

import nbclient
import nbformat

from scripts import build_site

WIDGET = "application/vnd.jupyter.widget-view+json"


def run(notebook: Path, output: Path, inplace: bool) -> bool:
    """Run one notebook and write what it makes; return whether all its cells passed."""
    cells = nbformat.read(notebook, as_version=4)
    started_at, wall_clock = time.monotonic(), time.time()
    error = execute(cells, notebook.parent, output)
    executed = output / notebook.name
    nbformat.write(cells, executed)
    if error is not None:
        print(error, file=sys.stderr)
        print(f"a cell failed; the notebook up to there: {executed}", file=sys.stderr)
        return False
    if inplace:
        nbformat.write(cells, notebook)
    print(f"\ndone in {time.monotonic() - started_at:.0f} s")
    print(f"network: {network_of(cells)}")
    for path in sorted(output.iterdir()):
        if path.stat().st_mtime >= wall_clock:
            print(f"  {os.path.relpath(path)}")
    return True


# --- execution ----------------------------------------------------------------------------------


def execute(
    notebook: nbformat.NotebookNode, folder: Path, output: Path
) -> nbclient.exceptions.CellExecutionError | None:
    """Fill in the outputs of all cells; return the error of the cell that failed, if one did."""
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    started_at = time.monotonic()

    def print_progress(cell: nbformat.NotebookNode, cell_index: int) -> None:
        if cell.cell_type == "code":
            first_line = next((line for line in cell.source.splitlines() if line.strip()), "")
            number, seconds = code_cells.index(cell) + 1, time.monotonic() - started_at
            print(f"[{seconds:4.0f} s] cell {number} of {len(code_cells)}: {first_line}")

    os.environ["NST_OUTPUT"] = str(output.resolve())  # where the notebook saves its pictures
    client = nbclient.NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=print_progress,
    )
    # The kernel's warning that it speaks TCP is about shared machines, and reads like a failure.
    client.extra_arguments = ["--IPKernelApp.log_level=40"]
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        return error
    finally:
        remove_widget_views(notebook)
    return None


def remove_widget_views(notebook: nbformat.NotebookNode) -> None:
    """Leave only a widget's text: progress bars that are over, sliders without a kernel."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop(WIDGET, None)


def network_of(notebook: nbformat.NotebookNode) -> str:
    """Return what ``load_network("auto")`` printed in a notebook."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "\n".join(output.get("text", "") for output in outputs)
    line = re.search(r"^network: (.*)$", text, re.MULTILINE)
    return line[1] if line else "not stated"


# --- command line -------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "notebooks", type=Path, nargs="*", default=build_site.stored(), help="default: all"
    )
    parser.add_argument("--output", type=Path, default=Path("output"))
    parser.add_argument("--no-site", action="store_true", help="only run them")
    parser.add_argument("--inplace", action="store_true", help="keep the outputs in the notebooks")
    args = parser.parse_args()
    for notebook in args.notebooks:
        if not notebook.is_file():
            parser.error(f"there is no notebook {notebook}")
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / ".writable").touch()  # before the work, not after
        (args.output / ".writable").unlink()
        for notebook in args.notebooks:
            print(f"\n{notebook}")
            if not run(notebook, args.output, args.inplace):
                return 1
    except OSError as error:
        print(f"cannot write into {args.output}: {error}", file=sys.stderr)
        return 1
    if args.no_site:
        return 0
    if not importlib.util.find_spec("sphinx_book_theme"):
        print('\nfor the site: pip install -e ".[site]", and then python -m scripts.build_site')
        return 0
    print()
    return build_site.build(args.output / "site", [args.output / p.name for p in args.notebooks])


if __name__ == "__main__":
    sys.exit(main())
