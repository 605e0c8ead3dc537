"""Runs a harness as native code on given states, and compares."""

import os
import random
import re
import subprocess

from .concrete import evaluate
from .terms import EQ, C, M, variables

MEMORY = re.compile(r"%(entries|claims|words|bytes)\.\d+\+(\d+)$")


def line(harness, values, machine):
    """A run as the program `native` reads it."""
    words = [harness]
    words += [f"any={values.get(any_value.k, 0):x}" for any_value in machine.anys]
    for (address, data), exempt in machine.predicate.items():
        where, what, is_exempt = evaluate([address, data, exempt], values)
        if is_exempt:
            words.append(f"exempt+{where:x}={what:x}")
    for name, value in sorted(values.items()):
        place = MEMORY.match(name)
        if place:
            words.append(f"{place[1]}+{int(place[2]):x}={value:x}")
    return " ".join(words)


def run(program, lines):
    """What the native harness says of each state: how often each property held and did not, what was
    observed, and whether the assumptions hold. None where native code panics."""
    answers = []
    while len(answers) < len(lines):
        given = "\n".join(lines[len(answers) :]) + "\n"
        done = subprocess.run([program], input=given, capture_output=True, text=True)
        answers += [parse(answer) for answer in done.stdout.splitlines()]
        if len(answers) < len(lines):
            answers.append(None)
    return answers


def show(program, given):
    """What the native harness prints of one state: state, input, what the rules expect, what it got."""
    done = subprocess.run(
        [program],
        input=given + "\n",
        capture_output=True,
        text=True,
        env=dict(os.environ, PROVE_SHOW="1"),
    )
    return done.stdout.splitlines()[:-1] if done.returncode == 0 else done.stderr.splitlines()


def parse(answer):
    properties, observed, assumed = [], [], False
    for word in answer.split():
        if word.startswith("assumed"):
            assumed = word.endswith("+")
        elif word.startswith("="):
            observed.append(int(word[1:], 16))
        else:
            properties.append((int(word[:-1]), word.endswith("+")))
    return sorted(properties), observed, assumed


def predict(machine, values):
    """The same, by the tool's terms."""
    properties = machine.properties
    terms = [p.reached for p in properties] + [p.violated for p in properties]
    terms += [t for pair in machine.observed for t in pair] + machine.assumed
    result = iter(evaluate(terms, values))
    reached = [next(result) for _ in properties]
    violated = [next(result) for _ in properties]
    held = [
        (p.number, not bad) for p, here, bad in zip(properties, reached, violated, strict=True) if here
    ]
    observed = [(next(result), next(result)) for _ in machine.observed]
    assumed = all(result)
    return sorted(held), [value for here, value in observed if here], bool(assumed)


def fails(machine, values):
    """Whether the tool says that the program panics, or does something that it must not."""
    return any(evaluate([violated for violated, _ in machine.obligations], values))


def states(machine, how_many, seed):
    """States that satisfy the assumptions. Variables that the assumptions do not name are random;
    of the others as many are fixed to random values as the solver can be made to take."""
    chance = random.Random(seed)
    names = [v for v in variables() if v.k.startswith(("any", "exempt")) or MEMORY.match(v.k)]
    bound = [v for v in names if machine.sol.knows(v)]
    for _ in range(how_many):
        values = {}
        for v in names:
            wide = chance.getrandbits(v.w)
            values[v.k] = chance.choice([wide, wide, chance.getrandbits(3), 0, M(v.w)])
        fixed = [EQ(v, C(values[v.k], v.w)) for v in chance.sample(bound, len(bound))]
        while not machine.sol.sat(*fixed):
            fixed = fixed[: len(fixed) // 2]
        # Also what is not in memory that was given, such as bytes that nobody wrote.
        values.update({v.k: machine.sol.value(v) for v in variables() if machine.sol.knows(v)})
        yield values


def compare(machine, harness, program, how_many, seed=1):
    """Compares tool and native code on states; returns the first difference as text, or None, and the
    numbers of the properties that were reached."""
    given = list(states(machine, how_many, seed))
    answers = run(program, [line(harness, values, machine) for values in given])
    reached = set()
    for values, answer in zip(given, answers, strict=True):
        predicted = predict(machine, values)
        # What the program must not do is a finding, and native code is free to do anything then.
        if fails(machine, values):
            continue
        if predicted != answer:
            where = line(harness, values, machine)
            return f"tool {predicted}\nnative {answer}\nstate {where}", reached
        reached |= {number for number, _ in answer[0]}
    return None, reached
