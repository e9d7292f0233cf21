"""The faults that are put into a source file: one replaced piece of text each.

A fault is made from the syntax tree but applied to the text, so that the line that a report shows
is the one that was written.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, NamedTuple

FLIPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt,),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt,),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
SIGNS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Lt: "<", ast.LtE: "<=",
    ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is", ast.IsNot: "is not",
    ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
#: Names that are easily taken for each other, where they are called or looked up.
MISTAKES = {
    "roles": (
        ("Send_init", "Recv_init"), ("Isend", "Irecv"), ("Send", "Recv"), ("dest", "source"),
        ("gatherv", "scatterv"), ("fetch", "add_back"), ("send_slabs", "send_ghosts"),
        ("receive_ghosts", "add_slabs"), ("slab", "slab_padded"), ("slab", "ghost"),
        ("near", "far"), ("sent", "received"), ("row_range", "column_range"), ("start", "stop"),
    ),
    "extremum": (("min", "max"), ("minimum", "maximum"), ("argmin", "argmax")),
    "zeros": (("zeros", "ones"), ("zeros_like", "ones_like")),
    "operation": (("SUM", "MAX"),),
}  # fmt: skip
RENAMED: dict[str, list[tuple[str, str]]] = {}
for _kind, _pairs in MISTAKES.items():
    for _one, _other in _pairs:
        RENAMED.setdefault(_one, []).append((_kind, _other))
        RENAMED.setdefault(_other, []).append((_kind, _one))
RENAMED.pop("ones", None)

#: Calls whose first argument is left as it is: the transpose, the copy, the sum over ranks dropped.
LEFT_OUT = {
    "swapaxes": "transpose", "transpose": "transpose", "conj": "conjugation", "copy": "copy",
    "conjugate": "conjugation", "reversed": "order", "sorted": "order", "abs": "factor",
    "allreduce": "collective", "bcast": "collective", "reduce": "collective",
    "unbroadcast": "collective", "cumsum": "collective",
}  # fmt: skip
#: Functions of (communicator, array, …) rather than of an array.
OF_COMMUNICATOR = {"allreduce", "bcast", "reduce"}
#: Statements that only refuse bad input, free memory, or tell compiler and cache what is to come;
#: nothing that is computed depends on them.
CHECKS = (
    "require", "check", "same_on_all", "agree", "warn", "finalize", "disjoint", "prefetch",
)  # fmt: skip
SYMMETRIC = {
    "isinstance", "min", "max", "minimum", "maximum", "hasattr", "getattr", "add", "print", "equal",
    "array_equal", "multiply", "hypot", "swapaxes", "logaddexp", "may_share_memory", "suppress",
}  # fmt: skip


class Mutation(NamedTuple):
    """One fault: the bytes from ``start`` to ``stop`` are replaced by ``text``."""

    kind: str
    line: int
    start: int
    stop: int
    old: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.kind}: {' '.join(self.old.split())} → {' '.join(self.text.split())}"

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.stop :]


def mutations(source: bytes, reached: set[str] | None = None) -> list[Mutation]:
    """Return all faults of a file's functions, each with another text.

    Parameters
    ----------
    source : bytes
    reached : set of str, optional
        Names of the functions to be changed (``function`` or ``Class.method``); all by default.
    """
    tree = ast.parse(source)
    maker = _Maker(source)
    distinct: dict[Any, Mutation] = {}
    for name, function in functions(tree):
        if reached is None or name in reached:
            maker.function(function)
            for m in reversed(maker.found):
                if _compiles(m, source, *maker.span(function)):
                    distinct[m.start, m.stop, m.text] = m
            maker.found.clear()
    return sorted(distinct.values(), key=lambda m: (m.start, m.kind, m.text))


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the functions of a module and the methods of its classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef):
                    yield f"{node.name}.{item.name}", item


def _compiles(mutation: Mutation, source: bytes, start: int, stop: int) -> bool:
    """Whether the function from ``start`` to ``stop`` still is one."""
    changed = mutation.apply(source)
    try:
        ast.parse(changed[start : stop + len(changed) - len(source)])
    except SyntaxError:
        return False
    return True


def _called(node: ast.Call) -> str:
    function = node.func
    return getattr(function, "id", "") or getattr(function, "attr", "")


def _checks(name: str) -> bool:
    return name.lstrip("_").startswith(CHECKS)


def only_raises(node: ast.stmt) -> bool:
    """Whether a statement is nothing but a check."""
    if isinstance(node, ast.If):
        return all(map(only_raises, node.body + node.orelse))
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return _checks(_called(node.value))
    return isinstance(node, ast.Raise | ast.Assert | ast.Import | ast.ImportFrom)


def _row_number(node: ast.AST, child: ast.AST) -> bool:
    """Whether this is the number by which a loop tells the compiler of a row that it stores."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"put", "take"}
        and child is node.args[-1]
    )


class _Maker:
    """Walks through a function and collects faults."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        starts = [0]
        for line in source.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        self.starts = starts
        self.found: list[Mutation] = []
        self.results = False  # inside a rule, whose results may lose precision

    def span(self, node: ast.AST) -> tuple[int, int]:
        start = self.starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        stop = self.starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        return start, stop

    def text(self, node: ast.AST) -> str:
        start, stop = self.span(node)
        return self.source[start:stop].decode()

    def add(self, kind: str, node: ast.AST, text: str) -> None:
        start, stop = self.span(node)
        line: int = node.lineno  # type: ignore[attr-defined]
        self.found.append(Mutation(kind, line, start, stop, self.text(node), text))

    def function(self, node: ast.FunctionDef | ast.Lambda) -> None:
        if isinstance(node, ast.Lambda):
            self.leak(node.body)
            self.visit(node.body)
            return
        before = self.results
        self.results = before or node.name in {"forward", "jvp", "vjp"}
        for statement in node.body:
            self.visit(statement)
        self.results = before

    def visit(self, node: ast.AST | None) -> None:
        if node is None or isinstance(node, ast.JoinedStr | ast.Global):
            return
        if isinstance(node, ast.stmt) and only_raises(node):
            return
        if isinstance(node, ast.keyword) and ast.unparse(node) == "copy=False":
            return  # a copy more changes no result
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            self.function(node)
            return
        make = getattr(self, f"of_{type(node).__name__.lower()}", None)
        if make is not None:
            make(node)
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "decorator_list", "ctx", "op", "ops", "type"}:
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not _row_number(node, child):
                    self.visit(child)

    def leak(self, node: ast.AST | None) -> None:
        """Round a result to float32 and back."""
        if not self.results or node is None:
            return
        if isinstance(node, ast.Tuple):
            for i, element in enumerate(node.elts):
                if not i or not isinstance(element, ast.Name | ast.Tuple):  # kept, no result
                    self.leak(element)
        elif not isinstance(node, ast.Lambda | ast.Constant | ast.IfExp):
            rounding = '__import__("tests.mutation.rounding", fromlist=["rounded"]).rounded'
            self.add("float32", node, f"{rounding}({self.text(node)})")

    # Statements

    def of_return(self, node: ast.Return) -> None:
        self.leak(node.value)

    def of_expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self.add("statement", node, "pass")

    def of_assign(self, node: ast.Assign) -> None:
        if all(isinstance(target, ast.Subscript) for target in node.targets):
            zero = isinstance(node.value, ast.Constant) and node.value.value == 0
            self.add("zeroing" if zero else "statement", node, "pass")

    def of_augassign(self, node: ast.AugAssign) -> None:
        target, value = self.text(node.target), self.text(node.value)
        self.add("statement", node, "pass")
        if isinstance(node.op, ast.Add | ast.Sub):
            other = "-=" if isinstance(node.op, ast.Add) else "+="
            self.add("overwrite", node, f"{target} = ({value})")
            self.add("sign", node, f"{target} {other} ({value})")

    def of_if(self, node: ast.If | ast.IfExp | ast.While) -> None:
        self.add("condition", node.test, f"not ({self.text(node.test)})")

    of_ifexp = of_while = of_if

    def of_continue(self, node: ast.Continue | ast.Break) -> None:
        self.add("statement", node, "pass")

    of_break = of_continue

    # Expressions

    def of_binop(self, node: ast.BinOp) -> None:
        left, right = self.text(node.left), self.text(node.right)
        kind = type(node.op)
        for other in FLIPS.get(kind, ()):
            name = "sign" if other in (ast.Add, ast.Sub) else "factor"
            self.add(name, node, f"(({left}) {SIGNS[other]} ({right}))")
        if kind in (ast.Add, ast.Sub):
            minus = "-" if kind is ast.Sub else ""
            self.add("term", node, f"({left})")
            self.add("term", node, f"({minus}({right}))")
        elif kind in (ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow):
            self.add("factor", node, f"({left})")
            if kind is ast.Mult:
                self.add("factor", node, f"({right})")
        elif kind is ast.MatMult:
            self.add("factor", node, f"(2 * ({left} @ {right}))")

    def of_unaryop(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.USub | ast.Not | ast.Invert):
            kind = "sign" if isinstance(node.op, ast.USub) else "condition"
            self.add(kind, node, f"({self.text(node.operand)})")

    def of_compare(self, node: ast.Compare) -> None:
        if len(node.ops) == 1:
            left, right = self.text(node.left), self.text(node.comparators[0])
            for other in FLIPS[type(node.ops[0])]:
                self.add("comparison", node, f"(({left}) {SIGNS[other]} ({right}))")

    def of_boolop(self, node: ast.BoolOp) -> None:
        for dropped in range(len(node.values)):
            rest = [f"({self.text(v)})" for i, v in enumerate(node.values) if i != dropped]
            word = " and " if isinstance(node.op, ast.And) else " or "
            self.add("condition", node, f"({word.join(rest)})")

    def of_constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.add("constant", node, str(not value))
        elif isinstance(value, int):
            self.add("constant", node, str(value + 1))
        elif isinstance(value, float):
            self.add("constant", node, repr(2 * value if value else 1.0))
        elif value in ("left", "right"):
            self.add("roles", node, '"right"' if value == "left" else '"left"')

    def of_subscript(self, node: ast.Subscript) -> None:
        index = node.slice
        for part in index.elts if isinstance(index, ast.Tuple) else [index]:
            if isinstance(part, ast.Slice):
                if part.lower is not None:
                    self.add("offset", part.lower, f"({self.text(part.lower)}) + 1")
                if part.upper is not None:
                    self.add("offset", part.upper, f"({self.text(part.upper)}) - 1")
            elif isinstance(part, ast.BinOp):
                self.add("offset", part, f"({self.text(part)}) + 1")

    def of_name(self, node: ast.Name | ast.Attribute) -> None:
        if not isinstance(node.ctx, ast.Load):
            return
        name = node.attr if isinstance(node, ast.Attribute) else node.id
        before = f"{self.text(node.value)}." if isinstance(node, ast.Attribute) else ""
        for kind, other in RENAMED.get(name, []):
            self.add(kind, node, before + other)
        if name == "root":
            size = '__import__("mpi4py.MPI", fromlist=["COMM_WORLD"]).COMM_WORLD.size'
            self.add("root", node, f"(({self.text(node)} + 1) % {size})")
        if name == "T":
            self.add("transpose", node, before.removesuffix("."))

    of_attribute = of_name

    def of_call(self, node: ast.Call) -> None:
        name = _called(node)
        plain = [a for a in node.args if not isinstance(a, ast.Starred)]
        if name == "range" or name == "slice":
            for i, argument in enumerate(plain[:2]):
                last = i == min(len(plain), 2) - 1
                self.add("offset", argument, f"({self.text(argument)}) {'- 1' if last else '+ 1'}")
        if name in LEFT_OUT:
            of_array = isinstance(node.func, ast.Attribute) and not node.args
            position = int(name in OF_COMMUNICATOR and isinstance(node.func, ast.Name))
            if of_array and isinstance(node.func, ast.Attribute):
                self.add(LEFT_OUT[name], node, f"({self.text(node.func.value)})")
            elif len(plain) > position:
                self.add(LEFT_OUT[name], node, f"({self.text(plain[position])})")
        if name in SYMMETRIC or _checks(name) or len(plain) < len(node.args):
            return
        for one, other in zip(plain, plain[1:]):
            self.swap("arguments", one, other)

    def of_tuple(self, node: ast.Tuple) -> None:
        if isinstance(node.ctx, ast.Load) and len(node.elts) == 2:
            self.swap("arguments", *node.elts)

    def swap(self, kind: str, one: ast.AST, other: ast.AST) -> None:
        (start, middle), (after, stop) = self.span(one), self.span(other)
        between = self.source[middle:after].decode()
        old = self.source[start:stop].decode()
        text = f"{self.text(other)}{between}{self.text(one)}"
        line: int = one.lineno  # type: ignore[attr-defined]
        if text != old and ast.dump(one) != ast.dump(other):
            self.found.append(Mutation(kind, line, start, stop, old, text))
