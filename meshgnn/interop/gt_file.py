"""graph-tool's binary files (`.gt`), written and read without graph-tool.

    bytes e2 9b be 20 67 74, version 1, one byte of byte order (0 little, 1 big)
    comment as a string; one byte, whether directed; uint64 number of nodes N
    per node: uint64 count, then that many neighbours, as uint8 up to N = 255, uint16 up to 65,535, uint32 or uint64
    uint64 number of property maps, each: key (0 graph, 1 vertex, 2 edge), name, value type, values

A string or vector is a uint64 length and its items. The neighbours of a node are the targets of the edges that begin at
it, so an undirected edge stands once; values of edges follow that order (graph-tool's documentation, "The gt file
format"). Value type 14, Python objects, holds pickles: never written, and refused when read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.store import written_aside

MAGIC = b"\xe2\x9b\xbe gt"
COMMENT = "graph-tool binary file, written by meshgnn"
SCALARS = {
    "bool": "u1", "int16_t": "i2", "int32_t": "i4", "int64_t": "i8", "double": "f8", "long double": "g", "string": "",
}  # fmt: skip
KINDS = (*SCALARS, *(f"vector<{name}>" for name in SCALARS))  # a kind's place is its number in the file
OBJECT = len(KINDS)


@dataclass(frozen=True, kw_only=True, eq=False)
class Property:
    """The values of one property map.

    Args:
        kind: graph-tool's name of the value type, one of `KINDS`.
        values: one per key. Numbers as an array [n], vectors of numbers as an array [n, C] or, where their lengths
            differ, a list of n arrays; strings as a list of str, vectors of strings as a list of lists.
    """

    kind: str
    values: Any


def one_value(kind: str, value: Any) -> Property:
    """A property of the whole graph."""
    held: Sequence[Any] | NDArray[Any]
    if kind in SCALARS and kind != "string":
        held = np.array([value])
    else:
        held = [np.asarray(value)] if "string" not in kind else [value]
    return Property(kind=kind, values=held)


@dataclass(frozen=True, kw_only=True, eq=False)
class GtGraph:
    """What a `.gt` file holds.

    Args:
        n_nodes: N.
        edges: [2, E] source and target, sources ascending; an undirected edge stands once.
        directed: whether edges have a direction.
        vertex, edge, graph: property maps by name; those of the graph have one value.
    """

    n_nodes: int
    edges: NDArray[np.int64]
    directed: bool = False
    vertex: Mapping[str, Property] = field(default_factory=dict)
    edge: Mapping[str, Property] = field(default_factory=dict)
    graph: Mapping[str, Property] = field(default_factory=dict)

    def scopes(self) -> list[tuple[Mapping[str, Property], int]]:
        """Property maps and how many values each has, in the order of the file's key numbers."""
        return [(self.graph, 1), (self.vertex, self.n_nodes), (self.edge, self.edges.shape[1])]


def _index_type(n_nodes: int) -> str:
    return next((kind for kind, most in (("u1", 0xFF), ("u2", 0xFFFF), ("u4", 0xFFFFFFFF)) if n_nodes <= most), "u8")


# -- writing -------------------------------------------------------------------------------------------------------


def gt_bytes(graph: GtGraph) -> bytes:
    """The content of a `.gt` file, little endian; the same graph gives the same bytes.

    Raises:
        InputError: edges that are not sorted by source or name no node; values that do not fit their kind or number.
    """
    edges = np.asarray(graph.edges, np.int64).reshape(2, -1)
    if edges.size and (edges.min() < 0 or edges.max() >= graph.n_nodes):
        raise InputError(f"an edge names node {edges.max()} of {graph.n_nodes}")
    if (np.diff(edges[0]) < 0).any():
        raise InputError("edges must be sorted by their source: values of edges follow that order in the file")
    text = [MAGIC, b"\x01\x00", _string(COMMENT), bytes([graph.directed]), _number(graph.n_nodes)]
    counts = np.bincount(edges[0], minlength=graph.n_nodes)
    targets = edges[1].astype("<" + _index_type(graph.n_nodes))
    width, raw, at = targets.itemsize, targets.tobytes(), 0
    for count in counts.tolist():
        text += [_number(count), raw[at : at + count * width]]
        at += count * width
    maps = [(key, n, name, one) for key, (held, n) in enumerate(graph.scopes()) for name, one in held.items()]
    text.append(_number(len(maps)))
    for key, n, name, one in maps:
        if one.kind not in KINDS or len(one.values) != n:
            raise InputError(f"property map {name!r}: {len(one.values)} values of kind {one.kind!r} for {n} keys")
        text += [bytes([key]), _string(name), bytes([KINDS.index(one.kind)]), _values(one)]
    return b"".join(text)


def write_gt(path: Path, graph: GtGraph) -> None:
    """Write `gt_bytes` to a file."""
    content = gt_bytes(graph)
    with written_aside(path) as aside:
        aside.write_bytes(content)


def _number(value: int) -> bytes:
    return value.to_bytes(8, "little")


def _string(text: str) -> bytes:
    raw = text.encode()
    return _number(len(raw)) + raw


def _values(one: Property) -> bytes:
    inner = one.kind.removeprefix("vector<").removesuffix(">")
    if one.kind == "string":
        return b"".join(map(_string, one.values))
    if one.kind == "vector<string>":
        return b"".join(_number(len(row)) + b"".join(map(_string, row)) for row in one.values)
    if one.kind == inner:
        return _raw(one.values, inner)
    if isinstance(one.values, np.ndarray) and one.values.ndim == 2 and inner != "long double":
        rows = np.empty(len(one.values), [("n", "<u8"), ("values", "<" + SCALARS[inner], one.values.shape[1:])])
        rows["n"], rows["values"] = one.values.shape[1], one.values
        return rows.tobytes()
    return b"".join(_number(len(row)) + _raw(row, inner) for row in one.values)


def _raw(values: Any, kind: str) -> bytes:
    if kind != "long double":
        return np.asarray(values, "<" + SCALARS[kind]).tobytes()
    _check_long_double()
    raw = np.asarray(values, np.longdouble).reshape(-1, 1).view(np.uint8).copy()
    raw[:, 10:] = 0  # 80 bits; what pads them to 128 is arbitrary
    return raw.tobytes()


def _check_long_double() -> None:
    form = np.finfo(np.longdouble)
    if (np.dtype(np.longdouble).itemsize, form.nmant) != (16, 63):
        raise InputError("a .gt property map of kind `long double` needs an x86-64 machine; make it `double` there")


# -- reading -------------------------------------------------------------------------------------------------------


def read_gt(path: Path) -> GtGraph:
    """Read a `.gt` file.

    Raises:
        InputError: the file cannot be read, is another format or compressed, is cut short or goes on after its end,
            names a node that does not exist, or holds Python objects (pickles), which are never read.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return parse_gt(content, str(path))


def parse_gt(content: bytes, name: str = ".gt data") -> GtGraph:
    """`read_gt` on bytes; `name` stands in errors."""
    return _Reader(content, name).graph()


class _Reader:
    """A place in the bytes of a file, which only moves within them."""

    def __init__(self, content: bytes, name: str) -> None:
        self.content, self.name, self.at = content, name, 0
        self.order = "<"

    def wrong(self, what: str) -> InputError:
        return InputError(f"{self.name}: not a whole .gt file: {what}")

    def take(self, count: int) -> bytes:
        if count > len(self.content) - self.at:
            raise self.wrong(f"it ends {count - len(self.content) + self.at} bytes too early")
        self.at += count
        return self.content[self.at - count : self.at]

    def number(self) -> int:
        return int.from_bytes(self.take(8), "little" if self.order == "<" else "big")

    def string(self) -> str:
        raw = self.take(self.number())
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.wrong(f"a text before byte {self.at} is not UTF-8") from None

    def array(self, kind: str, count: int) -> NDArray[Any]:
        """`count` numbers of a kind of `SCALARS`."""
        if kind == "long double":
            _check_long_double()
            if self.order != "<":
                raise self.wrong("long doubles of another byte order cannot be read")
            return np.frombuffer(self.take(16 * count), np.longdouble)
        dtype = np.dtype(self.order + SCALARS[kind])
        values = np.frombuffer(self.take(dtype.itemsize * count), dtype)
        return values != 0 if kind == "bool" else values.astype(dtype.newbyteorder("="), copy=False)

    def graph(self) -> GtGraph:
        if self.content[:2] in (b"\x1f\x8b", b"BZ", b"\xfd7"):
            raise InputError(f"{self.name}: is compressed; unpack it first (gunzip, bunzip2, unxz)")
        if self.content[:6] != MAGIC:
            raise InputError(f"{self.name}: not a .gt file of graph-tool")
        self.take(6)
        version, order = self.take(2)
        if version != 1 or order > 1:
            raise self.wrong(f"version {version} or byte order {order} is not known")
        self.order = "<>"[order]
        self.string()
        directed, n_nodes = self.take(1)[0] != 0, self.number()
        if n_nodes > (len(self.content) - self.at) // 8:
            raise self.wrong(f"it is too short for {n_nodes} nodes")
        edges = self.edges(n_nodes)
        maps: tuple[dict[str, Property], ...] = ({}, {}, {})
        counts = (1, n_nodes, edges.shape[1])
        for _ in range(self.number()):
            key, name, kind = self.take(1)[0], self.string(), self.take(1)[0]
            if kind == OBJECT:
                raise InputError(
                    f"{self.name}: property map {name!r} holds Python objects, which are pickles: reading them could "
                    "run code, so they are refused; delete that map in graph-tool and save again"
                )
            if key >= len(maps) or kind >= OBJECT or name in maps[key]:
                raise self.wrong(f"property map {name!r} of key {key} and type {kind} cannot be, or stands twice")
            maps[key][name] = Property(kind=KINDS[kind], values=self.values(KINDS[kind], counts[key]))
        if self.at != len(self.content):
            raise self.wrong(f"{len(self.content) - self.at} bytes follow its end")
        return GtGraph(
            n_nodes=n_nodes, edges=edges, directed=directed, graph=maps[0], vertex=maps[1], edge=maps[2]
        )  # fmt: skip

    def edges(self, n_nodes: int) -> NDArray[np.int64]:
        """[2, E] in the order of the file."""
        dtype = np.dtype(self.order + _index_type(n_nodes))
        counts, near = [], []
        for _ in range(n_nodes):
            counts.append(self.number())
            near.append(self.take(counts[-1] * dtype.itemsize))
        targets = np.frombuffer(b"".join(near), dtype)
        if len(targets) and targets.max() >= n_nodes:
            raise self.wrong(f"an edge names node {targets.max()} of {n_nodes}")
        return np.stack([np.repeat(np.arange(n_nodes), counts), targets.astype(np.int64)])

    def values(self, kind: str, count: int) -> Any:
        inner = kind.removeprefix("vector<").removesuffix(">")
        if count > len(self.content) - self.at:  # a value takes at least a byte
            raise self.wrong(f"it is too short for {count} values of type {kind}")
        if kind == "string":
            return [self.string() for _ in range(count)]
        if kind == "vector<string>":
            return [self.strings() for _ in range(count)]
        if kind == inner:
            return self.array(kind, count)
        return self.vectors(inner, count)

    def strings(self) -> list[str]:
        length = self.number()
        if length > (len(self.content) - self.at) // 8:
            raise self.wrong(f"it is too short for {length} texts")
        return [self.string() for _ in range(length)]

    def vectors(self, kind: str, count: int) -> NDArray[Any] | list[NDArray[Any]]:
        """Vectors of numbers: one array if they are equally long, as they mostly are, else a list."""
        start = self.at
        length = self.number() if count else 0
        self.at = start
        width = np.dtype(SCALARS[kind]).itemsize
        if count and (8 + length * width) * count <= len(self.content) - start:
            rows = np.frombuffer(self.content, np.uint8, (8 + length * width) * count, start).reshape(count, -1)
            if (rows[:, :8].copy().view(self.order + "u8") == length).all():
                self.at += rows.size
                inner = _Reader(rows[:, 8:].tobytes(), self.name)
                inner.order = self.order
                return inner.array(kind, length * count).reshape(count, length)
        return [self.array(kind, self.number()) for _ in range(count)]
