"""Values of terms, when every variable has one: the tool's terms as a machine would compute them."""

from .terms import M, sgn


def evaluate(terms, variables, known=None):
    """The values of `terms`, with `variables` by name; a variable that is not there is 0. `known` keeps
    what was found before, by the ids of terms."""
    known = {} if known is None else known
    for term in terms:
        stack = [term]
        while stack:
            t = stack[-1]
            if t.id in known:
                stack.pop()
                continue
            missing = [a for a in t.a if a.id not in known]
            if missing:
                stack.extend(missing)
                continue
            known[t.id] = compute(t, [known[a.id] for a in t.a], variables) & M(t.w)
            stack.pop()
    return [known[t.id] for t in terms]


def compute(t, a, variables):
    """The value of one term, from those of its arguments."""
    w = t.a[0].w if t.a else t.w
    match t.op:
        case "c":
            return t.k
        case "v":
            return variables.get(t.k, 0)
        case "not":
            return ~a[0]
        case "and":
            return a[0] & a[1]
        case "or":
            return a[0] | a[1]
        case "xor":
            return a[0] ^ a[1]
        case "ite":
            return a[1] if a[0] else a[2]
        case "eq":
            return int(a[0] == a[1])
        case "ult":
            return int(a[0] < a[1])
        case "slt":
            return int(sgn(a[0], w) < sgn(a[1], w))
        case "extract":
            return a[0] >> t.k
        case "concat":
            value = 0
            for part, term in zip(a, t.a, strict=True):
                value = value << term.w | part
            return value
        case "zext":
            return a[0]
        case "sext":
            return sgn(a[0], w)
        case "add":
            return a[0] + a[1]
        case "sub":
            return a[0] - a[1]
        case "mul":
            return a[0] * a[1]
        case "shl":
            return a[0] << a[1] if a[1] < w else 0
        case "lshr":
            return a[0] >> a[1]
        case "ashr":
            return sgn(a[0], w) >> min(a[1], w - 1)
        case "udiv":
            return a[0] // a[1] if a[1] else M(w)
        case "urem":
            return a[0] % a[1] if a[1] else a[0]
        case "popcnt":
            return a[0].bit_count()
        case "cttz":
            return (a[0] & -a[0]).bit_length() - 1 if a[0] else w
        case "ctlz":
            return w - a[0].bit_length()
    raise ValueError("unknown term " + t.op)
