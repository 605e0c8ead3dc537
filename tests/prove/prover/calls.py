"""Calls: of functions, of LLVM's intrinsics, and of the five functions that the harnesses are given."""

from dataclasses import dataclass

from .arithmetic import CTLZ, CTTZ, MUL, POPCNT, SUB, ULT, tz
from .memory import Unsupported
from .terms import ADD, AND, CONCAT, EQ, EXTRACT, FALSE, ITE, NOT, OR, TRUE, ZEXT, C, T, isc, var
from .values import Values

# They say something to the compiler and nothing to us.
IGNORED = ("llvm.lifetime", "llvm.experimental.noalias", "llvm.dbg")


@dataclass
class Property:
    """One place where a harness proves something."""

    number: int
    reached: T
    violated: T


class Calls(Values):
    """What is called by name. The methods return the state after, None if a call does not return."""

    def docall(self, st, instruction):
        _, dst, ty, callee, args = instruction
        name = callee[1] if callee[0] == "g" else self.pointed_to(self.val(st, ("p",), callee))
        if name in self.fns:
            after, value = self.call(self.fns[name], [self.val(st, at, av) for at, av in args], st)
            if after is not None and dst:
                after.env[dst] = value
            return after
        name = name[1:].strip('"')
        values = [self.val(st, at, av) if at[0] != "metadata" else None for at, av in args]
        if name.startswith(IGNORED):
            return st
        if name.startswith("__") or "panic" in name:
            return self.prover_call(st, name, dst, values)
        if name == "llvm.assume":
            # The compiler took it for granted, so it must hold.
            self.oblige(AND(st.g, NOT(values[0])), "llvm.assume")
            return st
        if name.startswith(("llvm.memcpy", "llvm.memmove")):
            return self.memcpy(st, *values[:3])
        if name.startswith("llvm.memset"):
            return self.memset(st, *values[:3])
        if name.startswith("llvm."):
            st.env[dst] = intrinsic(name, values, ty)
            return st
        if name == "bcmp" and isc(values[2]):
            # Only whether it is 0 has a meaning.
            left, right = (self.load(st, p, values[2].k, False) for p in values[:2])
            st.env[dst] = ZEXT(NOT(EQ(left, right)), ty[1])
            return st
        raise Unsupported("call of " + name)

    def pointed_to(self, pointer):
        """The name of the one function that `pointer` is."""
        names = {self.objs[o][0] for _, o, _ in pointer if o}
        if len(names) != 1:
            raise Unsupported("an indirect call of one of several functions")
        return names.pop()

    def exempt(self, address, data):
        """The unknown predicate: any value, but the same for the same message."""
        value = self.predicate.get((address, data))
        if value is None:
            value = var(f"exempt{len(self.predicate)}", 1)
            for (other_address, other_data), other in self.predicate.items():
                same = AND(EQ(address, other_address), EQ(data, other_data))
                self.sol.assume(OR(NOT(same), EQ(value, other)))
                self.assumed.append(OR(NOT(same), EQ(value, other)))
            self.predicate[address, data] = value
        return value

    def prover_call(self, st, name, dst, values):
        if name == "__any_u64":
            value = var(f"any{len(self.anys)}", 64)
            self.anys.append(value)
            st.env[dst] = value
        elif name == "__assume":
            # The compiler may lay out another path first, which the assumption does not concern.
            before = FALSE
            for condition in [p.reached for p in self.properties] + [o[0] for o in self.obligations]:
                before = OR(before, condition)
            if self.sol.sat(AND(st.g, before)):
                raise Unsupported("an assumption after a property, or after what must not be done")
            assumption = OR(NOT(st.g), values[0])
            self.assumed.append(assumption)
            self.sol.assume(assumption)
        elif name == "__prove":
            condition, number = values
            for here, one in choices(number):
                here = AND(st.g, here)
                if here is not FALSE:
                    self.properties.append(Property(one, here, AND(here, NOT(condition))))
        elif name == "__exempt":
            st.env[dst] = self.exempt(*values)
        elif name == "__observe":
            self.observed.append((st.g, values[0]))
        elif name == "__panicked" or "panic" in name:
            self.oblige(st.g, "panic " + name)
            return None
        else:
            raise Unsupported("call of " + name)
        return st

    def memcpy(self, st, to, source, length):
        if not isc(length):
            return self.memcpy_some(st, to, source, length)
        n = length.k
        if n == 0:
            return st
        if len(source) == 1 and isc(source[0][2]):
            o, f = source[0][1], source[0][2].k
            if f + n > self.objs[o][1]:
                self.oblige(st.g, "memcpy out of bounds")
                return st
            self.store(st, to, [self.cell(st, o, f + i) for i in range(n)])
            return st
        width = 4 if n % 4 == 0 else 1
        cells = []
        for i in range(0, n, width):
            v = self.load(st, tuple((g, o, ADD(f, C(i, 64))) for g, o, f in source), width, False)
            cells += [EXTRACT(v, 8 * j + 7, 8 * j) for j in range(width)]
        self.store(st, to, cells)
        return st

    def memcpy_some(self, st, to, source, length):
        """Copies a number of bytes that is not known, to a known place."""
        if len(to) != 1 or not isc(to[0][2]):
            raise Unsupported("memcpy of symbolic length to a symbolic place")
        o, f = to[0][1], to[0][2].k
        size = self.objs[o][1] - f
        self.oblige(AND(st.g, ULT(C(size, 64), length)), "memcpy out of bounds")
        cells = {}
        for i in range(size):
            inside = ULT(C(i, 64), length)
            here = st.fork(AND(st.g, inside))
            if here.g is FALSE:
                continue
            byte = self.load(here, tuple((g, p, ADD(at, C(i, 64))) for g, p, at in source), 1, False)
            cells[f + i] = self.mergec(inside, byte, self.cell(st, o, f + i))
        self.wr(st, o).update(cells)
        return st

    def memset(self, st, to, value, length):
        if isc(length):
            if length.k:
                self.store(st, to, [value] * length.k)
            return st
        if len(to) != 1 or not isc(to[0][2]):
            raise Unsupported("memset of symbolic length")
        o, f = to[0][1], to[0][2].k
        size = self.objs[o][1] - f
        self.oblige(AND(st.g, ULT(C(size, 64), length)), "memset out of bounds")
        cells = self.wr(st, o)
        step = 1 << min(tz(length), 6)
        for i in range(size):
            inside = ULT(C(i // step * step, 64), length)
            cells[f + i] = self.mergec(inside, value, self.cell(st, o, f + i))
        return st


def choices(number):
    """The constants that a term may be, each with its condition: the compiler merges calls that differ
    in a constant alone."""
    if isc(number):
        return [(TRUE, number.k)]
    if number.op != "ite":
        raise Unsupported("a property of unknown number")
    condition, yes, no = number.a
    return [(AND(condition, g), k) for g, k in choices(yes)] + [
        (AND(NOT(condition), g), k) for g, k in choices(no)
    ]


def intrinsic(name, values, ty):
    """The value of an intrinsic that computes something."""
    kind = name.split(".")[1:]
    a = values[0]
    b = values[1] if len(values) > 1 else None
    match kind[:2]:
        case ["usub", "sat"]:
            return ITE(ULT(a, b), C(0, a.w), SUB(a, b))
        case ["uadd", "sat"]:
            total = ADD(a, b)
            return ITE(ULT(total, a), C(-1, total.w), total)
        case ["uadd", "with"]:
            total = ADD(a, b)
            return total, ULT(total, a)
        case ["usub", "with"]:
            return SUB(a, b), ULT(a, b)
        case ["umul", "with"]:
            w = a.w
            product = MUL(ZEXT(a, 2 * w), ZEXT(b, 2 * w))
            return EXTRACT(product, w - 1, 0), NOT(EQ(EXTRACT(product, 2 * w - 1, w), C(0, w)))
    match kind[0]:
        case "is":  # is.constant: not known
            return FALSE
        case "umax":
            return ITE(ULT(a, b), b, a)
        case "umin":
            return ITE(ULT(a, b), a, b)
        case "ctpop":
            return POPCNT(a)
        case "cttz":
            return CTTZ(a)
        case "ctlz":
            return CTLZ(a)
        case "bswap":
            return CONCAT([EXTRACT(a, 8 * i + 7, 8 * i) for i in range(a.w // 8)])
        case "fshl" | "fshr" if isc(values[2]):
            w = a.w
            s = values[2].k % w
            both = CONCAT([a, b])
            low = w - s if kind[0] == "fshl" else s
            return EXTRACT(both, low + w - 1, low)
        case "ucmp":
            w = ty[1]
            return ITE(ULT(a, b), C(-1, w), ITE(EQ(a, b), C(0, w), C(1, w)))
    raise Unsupported(name)
