"""Builds the harnesses, and proves many of them in processes of their own."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import prove, selftest

HERE = Path(__file__).resolve().parent.parent
# Loops stay loops and vectors stay words: the tool executes bit-vectors, not SIMD.
FLAGS = "--cfg msix_prove -C no-vectorize-loops -C no-vectorize-slp"
IR_FLAGS = " -C llvm-args=-inline-threshold=2000 -C llvm-args=-unroll-threshold=0"
# More than ten seconds of CPU at 64 vectors.
SLOW = {"claim", "load", "read_table", "set_message", "write_dword", "write_qword", "write_other"}
# More than ten seconds of CPU with 32 vectors of MSI.
SLOW_FUNCTION = {"function_write_msi", "function_write_msix", "function_report_held"}
# Those of a whole function, which is proven with one vector of MSI-X or two.
WHOLE = "function_"
# Proven for every number of vectors at once.
EVERY = [
    "notify",
    "withdraw",
    "unclaim",
    "report_failed",
    "prepare_save",
    "poll_pba",
    "read_pba",
    "reset",
]
# How many harnesses are proven at once.
JOBS = int(os.environ.get("PROVE_JOBS", os.cpu_count() or 1))
# CPU seconds of one harness.
LIMIT = int(os.environ.get("PROVE_LIMIT", 1800))


def cargo(source, vectors, only, target, *args, flags="", rustc=(), **settings):
    """Runs cargo on the crate of the harnesses in `source`, with `settings` in its environment. Of the
    harnesses `only` are compiled, if they are given."""
    environment = dict(os.environ, PROVE_N=str(vectors), RUSTFLAGS=FLAGS + flags, **settings)
    environment.pop("PROVE_ONLY", None)
    if only:
        environment["PROVE_ONLY"] = "".join(f"prove_{name}," for name in only)
    if str(vectors).endswith("d"):
        environment["CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS"] = "true"
    command = [os.environ.get("CARGO", "cargo"), *args, "--quiet", "--release"]
    command += ["--manifest-path", str(source / "Cargo.toml"), "--target-dir", str(target)]
    command += ["--", *rustc] if rustc else []
    subprocess.run(command, env=environment, check=True)


def build_ir(vectors, out, only=None, source=HERE, target=HERE / "target/ir"):
    """Compiles harnesses for a number of vectors to LLVM IR."""
    # Straight to its place: in the target folder, the file of an earlier choice has the same name.
    rustc = (f"--emit=llvm-ir={out}", "-C", "linker=true")
    arguments = ("rustc", "--lib", "--crate-type", "cdylib")
    cargo(source, vectors, only, target, *arguments, flags=IR_FLAGS, rustc=rustc)
    return out


def build_native(vectors, out, only=None, source=HERE, target=HERE / "target/native"):
    """Compiles the program that runs them natively."""
    # It runs a few states, so the time goes into compiling it.
    quickly = {"CARGO_PROFILE_RELEASE_LTO": "off", "CARGO_PROFILE_RELEASE_OPT_LEVEL": "1"}
    cargo(source, vectors, only, target, "build", "--bin", "native", "--features", "native", **quickly)
    shutil.copy(target / "release/native", out)
    return out


def property_names(source=HERE):
    """The names of the properties by number, from the enum in `any.rs`."""
    text = (source / "src/any.rs").read_text()
    body = re.search(r"pub enum Property \{(.*?)\n\}", text, re.S)[1]
    return {int(number): name for name, number in re.findall(r"(\w+) = (\d+),", body)}


def harnesses(source=HERE):
    """The names of the harnesses, without `prove_`, from the list in `inputs.rs`."""
    text = (source / "src/inputs.rs").read_text()
    return sorted(re.findall(r"\bprove_(\w+)", text[text.index("\nharnesses! {") :]))


def wanted(vectors):
    """The harnesses that are proven for a number of vectors."""
    if vectors == "..70":
        return EVERY
    return [name for name in harnesses() if vectors != 64 or not name.startswith(WHOLE)]


def one(ir, harness, program=None, smt_folder=None):
    """Proves one harness in this process, and prints what became of it."""
    try:
        result = prove.prove(ir, "prove_" + harness, property_names(), program, smt_folder)
    except Exception:
        result = prove.Result(harness, "ERROR", notes=[traceback.format_exc()])
    print(result, flush=True)
    return {"PROVED": 0, "REFUTED": 1, "VACUOUS": 2}.get(result.verdict, 3)


def run_one(ir, harness, program, smt_folder=None, limit=LIMIT):
    """Proves one harness in a process of its own. Returns its status, and what it printed. Its status
    is 3 when the tool failed, or took too long."""
    command = [sys.executable, "-m", "prover", "one", str(ir), harness]
    command += ["--native", str(program)] if program else []
    command += ["--smt", str(smt_folder)] if smt_folder else []
    shell = ["bash", "-c", f'ulimit -t {limit}; exec nice "$@"', "prover", *command]
    done = subprocess.run(shell, cwd=HERE, capture_output=True, text=True)
    text = (done.stdout + done.stderr).strip()
    if done.returncode not in (0, 1, 2, 3) or not text:
        return 3, f"ERROR    {harness}: status {done.returncode} after {limit} s at most\n{text}"
    return done.returncode, text


def prove_all(jobs, smt_folder=None):
    """Proves `jobs`: IR file, native program, harness. Prints each; returns 0 if all hold."""
    failed = []
    with ThreadPoolExecutor(JOBS) as pool:
        running = [
            (harness, pool.submit(run_one, ir, harness, program, smt_folder))
            for ir, program, harness in jobs
        ]
        for harness, job in running:
            status, text = job.result()
            print(text, flush=True)
            if status:
                failed.append(harness)
    if failed:
        print(f"not proved: {', '.join(failed)}")
    return int(bool(failed))


def built(vectors, folder, only=None, **where):
    """Builds both forms of the harnesses for a number of vectors; `where` says from which source, and
    where cargo keeps what it makes."""
    name = str(vectors).replace("..", "up-to-")
    source, targets = where.get("source", HERE), where.get("targets", HERE / "target")
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(build, vectors, Path(folder, kind + name), only, source, targets / kind)
            for build, kind in ((build_ir, "ir"), (build_native, "native"))
        ]
    return [job.result() for job in jobs]


def size(vectors, chosen):
    unknown = set(chosen) - set(harnesses())
    if unknown:
        print(f"no harness: {', '.join(sorted(unknown))}")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        ir, program = built(vectors, folder, chosen)
        return prove_all([(ir, program, harness) for harness in chosen or harnesses()])


def test_tool(ir, program):
    """Tests the tool itself; returns 0 if it passes."""
    wrong = [selftest.rewriting(), *selftest.broken_tool(ir, "set_mask", program)]
    wrong = [what for what in wrong if what]
    for what in wrong:
        print(f"the tool's own test fails: {what}")
    return int(bool(wrong))


def quick():
    """Two vectors whole, also with exempt messages, and 64 without the slow ones."""
    from . import defects

    start = time.time()
    status = defects.misplaced()
    with tempfile.TemporaryDirectory() as folder:
        for vectors, without in ((2, set()), ("2x", SLOW_FUNCTION), (64, SLOW)):
            chosen = [harness for harness in wanted(vectors) if harness not in without]
            ir, program = built(vectors, folder, chosen)
            if vectors == 2:
                status |= test_tool(ir, program)
            print(f"{vectors} vectors", flush=True)
            status |= prove_all([(ir, program, harness) for harness in chosen])
    print(f"{time.time() - start:.0f} s")
    return status


def long():
    """Two vectors whole, also with exempt messages; one with the assertions of a debug build; MSI-X with 64;
    some inputs for every number of vectors up to 70; and the questions for two asked again of another
    solver."""
    from . import recheck

    status = 0
    with tempfile.TemporaryDirectory() as folder:
        for vectors in (2, "2x", "1d", 64, "..70"):
            chosen = wanted(vectors)
            ir, program = built(vectors, folder, chosen)
            if vectors == 2:
                status |= test_tool(ir, program)
            print(f"{vectors} vectors", flush=True)
            questions = Path(folder, f"questions-{vectors}")
            questions.mkdir()
            again = questions if vectors == 2 else None
            status |= prove_all([(ir, program, h) for h in chosen], again)
            if again:
                status |= recheck.all_of(questions, JOBS)
    return status
