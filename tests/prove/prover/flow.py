"""What follows what in a function, and what is live where."""

from .ir import pinst


def prepare(f):
    """Parses the instructions of a function, and finds successors and what is live."""
    f.ins = {b: [pinst(s) for s in f.blocks[b]] for b in f.order}
    f.succ = {}
    for b in f.order:
        t = f.ins[b][-1]
        if t[0] == "br":
            f.succ[b] = [t[3]] if t[2] is None else list(dict.fromkeys([t[3], t[4]]))
        elif t[0] == "switch":
            f.succ[b] = list(dict.fromkeys([t[4]] + [c[1] for c in t[5]]))
        else:
            f.succ[b] = []

    def uses(x, acc):
        if isinstance(x, tuple):
            if len(x) == 2 and x[0] == "l" and isinstance(x[1], str):
                acc.add(x[1])
                return
            for y in x:
                uses(y, acc)
        elif isinstance(x, list):
            for y in x:
                uses(y, acc)

    use = {}
    df = {}
    for b in f.order:
        u = set()
        d = set()
        for t in f.ins[b]:
            if t[0] == "phi":
                d.add(t[1])
                continue
            acc = set()
            uses(t[2:], acc)
            u |= acc - d
            if t[1]:
                d.add(t[1])
        use[b] = u
        df[b] = d
    phiuse = {}
    for b in f.order:
        for t in f.ins[b]:
            if t[0] == "phi":
                for pb, v in t[3].items():
                    if v[0] == "l":
                        phiuse.setdefault(pb, set()).add(v[1])
    f.phis = {b: [t for t in f.ins[b] if t[0] == "phi"] for b in f.order}
    live = {b: set() for b in f.order}
    ch = True
    while ch:
        ch = False
        for b in reversed(f.order):
            out = set(phiuse.get(b, ()))
            for s in f.succ[b]:
                out |= live[s] - {t[1] for t in f.phis[s]}
            n = use[b] | (out - df[b]) | {t[1] for t in f.phis[b]}
            if n != live[b]:
                live[b] = n
                ch = True
    f.live = live
    f.ready = True


def sccs(f, nodes, cut):
    """Strongly connected components of `nodes` without edges into `cut`, in topological order."""
    idx = {}
    low = {}
    on = set()
    st = []
    out = []
    for root in nodes:
        if root in idx:
            continue
        work = [(root, iter(f.succ[root]))]
        idx[root] = low[root] = len(idx)
        st.append(root)
        on.add(root)
        while work:
            v, it = work[-1]
            adv = False
            for w in it:
                if w not in nodes or w == cut:
                    continue
                if w not in idx:
                    idx[w] = low[w] = len(idx)
                    st.append(w)
                    on.add(w)
                    work.append((w, iter(f.succ[w])))
                    adv = True
                    break
                elif w in on:
                    low[v] = min(low[v], idx[w])
            if adv:
                continue
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[v])
            if low[v] == idx[v]:
                c = []
                while True:
                    w = st.pop()
                    on.discard(w)
                    c.append(w)
                    if w == v:
                        break
                out.append(c)
    out.reverse()
    return out
