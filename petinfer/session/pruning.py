"""Removes an output from an ONNX message with the nodes that it alone needs, which onnxruntime would compute on each run."""

from __future__ import annotations

from typing import NamedTuple

from .protobuf import field, fields

_GRAPH = 7  # a field of onnx.ModelProto
_NODES, _OUTPUTS = 1, 12  # of onnx.GraphProto
_NODE_INPUTS, _NODE_OUTPUTS, _OPERATOR = 1, 2, 4  # of onnx.NodeProto
_NAME = 1  # of onnx.ValueInfoProto


class _Node(NamedTuple):
    begin: int
    end: int
    inputs: list[bytes]
    outputs: list[bytes]


def without_output(message: bytes, name: str) -> bytes:
    """An ONNX message without one of its outputs and the nodes that no other output needs.

    A graph without that output, or with branches, stays as it is.

    Raises:
        ValueError, IndexError: it is not an ONNX message.
    """
    parts, kept = [], 0
    for number, begin, payload, end in fields(message, 0, len(message)):
        if number == _GRAPH:
            parts += [message[kept:begin], field(_GRAPH, _pruned(message[payload:end], name.encode()))]
            kept = end
    return b"".join([*parts, message[kept:]])


def _pruned(graph: bytes, name: bytes) -> bytes:
    nodes: list[_Node] = []
    needed: set[bytes] = set()
    removed: list[tuple[int, int]] = []  # where a part begins and ends
    for number, begin, payload, end in fields(graph, 0, len(graph)):
        if number == _NODES:
            found = _texts(graph, payload, end)
            if found.get(_OPERATOR) == [b"If"]:  # its branches read tensors that are not among its inputs
                return graph
            nodes.append(_Node(begin, end, found.get(_NODE_INPUTS, []), found.get(_NODE_OUTPUTS, [])))
        elif number == _OUTPUTS:
            output = _texts(graph, payload, end)[_NAME][-1]
            if output == name:
                removed.append((begin, end))
            else:
                needed.add(output)
    if not removed:
        return graph
    for node in reversed(nodes):  # ONNX lists them in an order in which they can be computed
        if needed.isdisjoint(node.outputs):
            removed.append((node.begin, node.end))
        else:
            needed.update(node.inputs)
    parts, kept = [], 0
    for begin, end in sorted(removed):
        parts.append(graph[kept:begin])
        kept = end
    return b"".join([*parts, graph[kept:]])


def _texts(data: bytes, start: int, end: int) -> dict[int, list[bytes]]:
    """The payloads of a message's fields, by the field's number."""
    found: dict[int, list[bytes]] = {}
    for number, _, payload, after in fields(data, start, end):
        found.setdefault(number, []).append(data[payload:after])
    return found
