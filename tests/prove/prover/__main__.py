"""The command line: see `--help`."""

import argparse
import sys

from . import suite


def main():
    # Terms of 64 vectors are deep.
    sys.setrecursionlimit(100_000)
    parser = argparse.ArgumentParser(prog="prover", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("one", help="prove harnesses of one IR file, in this process")
    one.add_argument("ir")
    one.add_argument("harness")
    one.add_argument("--native", help="the program that runs the harnesses natively")
    one.add_argument("--smt", help="a folder for the questions as SMT-LIB text")
    for name, words in (("quick", "what the ordinary suite proves"), ("long", "everything")):
        commands.add_parser(name, help=words)
    chosen = commands.add_parser("size", help="chosen harnesses for a number of vectors")
    chosen.add_argument("vectors", help="a number, or ..N for every number up to N")
    chosen.add_argument("harnesses", nargs="*")
    defects = commands.add_parser("defects", help="break the engine, and see it found")
    defects.add_argument("names", nargs="*")
    given = parser.parse_args()
    match given.command:
        case "one":
            return suite.one(given.ir, given.harness, given.native, given.smt)
        case "size":
            return suite.size(given.vectors, given.harnesses)
        case "defects":
            from . import defects as seeded

            return seeded.run(given.names)
        case "quick":
            return suite.quick()
        case _:
            return suite.long()


sys.exit(main())
