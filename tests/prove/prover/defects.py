"""Seeded defects: breaks a copy of the engine in one place at a time, and sees it found."""

import re
import shutil
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from . import suite

ROOT = suite.HERE.parent.parent
# A file that the harnesses include.
SHARED = "sim/explorer/src/script/line.rs"


def all_of_them():
    return tomllib.loads((suite.HERE / "defects.toml").read_text())["defect"]


def misplaced():
    """Prints the defects that have no place in the engine as it is now, or several; returns whether there
    are any."""
    wrong = 0
    for defect in all_of_them():
        times = (ROOT / "core/src" / defect["file"]).read_text().count(defect["from"])
        if times != 1:
            print(f"{defect['name']}: its place stands {times} times in {defect['file']}")
            wrong += 1
    return int(wrong > 0)


def run(names):
    """Tries all defects, or those with a name that contains one of `names`; returns 0 if each is found
    by the harness and the property meant for it."""
    if misplaced():
        return 1
    listed = all_of_them()
    chosen = [d for d in listed if not names or any(name in d["name"] for name in names)]
    without = set(suite.property_names().values()) - {d["property"] for d in listed}
    if without:
        print(f"no defect for: {', '.join(sorted(without))}")
    missed = [d["name"] for d in chosen if not found(d)]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} defects found")
    return int(bool(missed or without))


def broken_copy(defect, folder):
    """Copies what the harnesses are made of, with the defect. Returns their folder in the copy."""
    ignore = shutil.ignore_patterns("target", "__pycache__")
    shutil.copytree(ROOT / "core", folder / "core", ignore=ignore)
    shutil.copytree(suite.HERE, folder / "tests/prove", ignore=ignore)
    (folder / SHARED).parent.mkdir(parents=True)
    shutil.copy(ROOT / SHARED, folder / SHARED)
    manifest = (ROOT / "Cargo.toml").read_text()
    manifest = re.sub(r"\nmembers = \[.*?\]", '\nmembers = ["core"]', manifest, flags=re.S)
    manifest = re.sub(r"\ndefault-members = .*", "", manifest)
    (folder / "Cargo.toml").write_text(manifest)
    shutil.copy(ROOT / "README.md", folder)
    place = folder / "core/src" / defect["file"]
    place.write_text(place.read_text().replace(defect["from"], defect["to"]))
    return folder / "tests/prove"


def found(defect):
    """Whether the harness refutes the property, and native code does the same."""
    start = time.time()
    vectors = defect.get("vectors", 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = broken_copy(defect, folder)
        # One target folder for all, so that dependencies are compiled once.
        targets = suite.HERE / "target/defects"
        only = [defect["harness"]]
        ir, program = suite.built(vectors, folder, only, source=source, targets=targets)
        status, text = suite.run_one(ir, defect["harness"], program)
    refuted = re.findall(r"REFUTED ([A-Z][A-Za-z]+|a panic.*)$", text, re.M)
    good = status == 1 and defect["property"] in refuted and "does not do that" not in text
    if "script" in defect:
        good &= bool(re.search(rf"\n *msix-script 1(\n.*)+\n *{defect['script']}\n", text))
    verdict = "found by" if good else "NOT FOUND by"
    seconds = time.time() - start
    print(f"{defect['name']}: {verdict} {defect['harness']}, {defect['property']} ({seconds:.0f} s)")
    if not good:
        print(text)
    sys.stdout.flush()
    return good
