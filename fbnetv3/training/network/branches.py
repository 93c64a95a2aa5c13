"""Where a network has residual branches: found in the `forward` of every module, traced with its children as units.

A branch is one term of a sum of two values that come from one: the term that passed more layers with weights than the
other, the shortcut. A shortcut without such layers may have no parameters at all: a norm alone beside a convolution is one
of several equal terms, as RepVGG has them. Sums in which no branch can be told from a shortcut, and modules that cannot be
traced, are named, so that nobody takes a part for the whole.
"""

from __future__ import annotations

import inspect
import operator
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import fx, nn
from torch.nn import functional as F

_RATE_ATTRIBUTES = {
    "StochasticDepth": ("rate", "p"),
    "DropPath": ("drop_prob",),
}  # ours, torchvision's; timm's and its copies
_ADD = (operator.add, operator.iadd, torch.add, "add", "add_")
_MUL = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
_SCALED = (F.dropout, F.relu, torch.relu, "relu", "relu_", "contiguous")  # f(c * x) = c * f(x) for c >= 0


@dataclass
class Branches:
    """Residual branches of a model."""

    ends: dict[str, int] = field(default_factory=dict)  # name of the last module: axis of the samples; as registered
    inside: set[int] = field(default_factory=set)  # ids of the modules in branches
    left: list[str] = field(default_factory=list)  # modules with a sum that was not understood
    untraced: list[str] = field(default_factory=list)


def find_branches(model: nn.Module) -> Branches:
    """The residual branches of `model`; where a branch has a stochastic depth of its own, that is its end."""
    found, ends = Branches(), {}
    names = {id(module): name for name, module in model.named_modules()}
    for name, module in model.named_modules():
        if isinstance(module, nn.TransformerEncoderLayer):  # its fast path cannot be traced
            ends.update(dict.fromkeys((names[id(module.dropout1)], names[id(module.dropout2)]), _sample_axis(module)))
            found.inside.update(map(id, module.modules()))
        elif rate_attribute(module):
            ends[name] = 0
        elif next(module.children(), None) is not None and not type(module).__module__.startswith("torch.nn."):
            graph = _trace(module)
            if graph is None:
                found.untraced.append(name)
                continue
            sums = _Sums(module, graph)
            for end in sums.ends:
                *_, last = end.modules()
                ends[names[id(last if rate_attribute(last) else end)]] = _sample_axis(module)
            found.inside.update(id(inner) for part in sums.inside for inner in part.modules())
            found.left.extend([name] if sums.left else [])
    found.ends = {name: ends[name] for name in names.values() if name in ends}
    return found


def rate_attribute(module: nn.Module) -> str | None:
    """The attribute that holds the rate, if the module is a stochastic depth: `StochasticDepth` or `DropPath` by name."""
    names = _RATE_ATTRIBUTES.get(type(module).__name__, ())
    return next((name for name in names if hasattr(module, name)), None)


def has_weight(module: nn.Module) -> bool:
    """Whether the module itself has weights, as convolutions, linear layers and attention have and norms have not."""
    return any(parameter.dim() >= 2 for parameter in module.parameters(recurse=False))


def _sample_axis(module: nn.Module) -> int:
    """The axis of the samples in a block: the first, unless an attention in it says otherwise."""
    return int(any(isinstance(m, nn.MultiheadAttention) and not m.batch_first for m in module.children()))


class _Tracer(fx.Tracer):
    """Traces one module's own `forward`; its children are units."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _trace(module: nn.Module) -> fx.Graph | None:
    """The graph of the module's own forward in training, optional arguments at their defaults; None if there is none."""
    training, module.training = module.training, True
    try:
        parameters = inspect.signature(module.forward).parameters.values()
        return _Tracer().trace(module, {p.name: p.default for p in parameters if p.default is not p.empty})
    except Exception:  # anybody's code, run on proxies, may raise anything; `untraced` names the module
        return None
    finally:
        module.training = training


class _Sums:
    """The residual branches in one graph: `ends` their last modules, `inside` all of them, `left` sums not understood."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        self.module = module
        self.calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
        self.ends: list[nn.Module] = []
        self.inside: list[nn.Module] = []
        self.left: list[str] = []
        self.position = {node: i for i, node in enumerate(graph.nodes)}
        self.before: dict[fx.Node, set[fx.Node]] = {}  # a node and all that it depends on
        self.trunk: set[fx.Node] = set()  # residual sums so far
        for node in graph.nodes:
            self.before[node] = {node}.union(*(self.before[n] for n in node.all_input_nodes))
            if node.target in _ADD and len(node.args) >= 2 and all(isinstance(a, fx.Node) for a in node.args[:2]):
                self._sum(node)

    def _sum(self, node: fx.Node) -> None:
        terms: list[fx.Node] = list(node.args[:2])  # type: ignore[arg-type]
        common = self.before[terms[0]] & self.before[terms[1]]
        if not self._depends_on_input(common):
            return  # a sum with parameters, such as a position embedding
        fork = max(common, key=self.position.__getitem__)
        paths = [self.before[term] - self.before[fork] for term in terms]
        # A term that is itself a residual sum is the trunk, whatever it passed: x + f(x) + g(x).
        weights = [0 if t in self.trunk else sum(map(self._weight, p)) for t, p in zip(terms, paths, strict=True)]
        if weights == [0, 0]:
            return
        branch, shortcut = (0, 1) if weights[0] > weights[1] else (1, 0)
        end = self._end(terms[branch], paths[branch], node)
        if weights[0] == weights[1] or end is None or not self._may_be_shortcut(terms[shortcut], paths[shortcut]):
            self.left.append(str(node))
            return
        self.trunk.add(node)
        self.ends.append(self._module(end))
        self.inside.extend(self._module(n) for n in paths[branch] if n.op == "call_module")

    def _may_be_shortcut(self, term: fx.Node, path: set[fx.Node]) -> bool:
        if term in self.trunk:
            return True
        if any(n.target is operator.getitem and isinstance(n.args[1], int) for n in path):
            return False  # one of several values: no shortcut around the others
        called = [n for n in path if n.op == "call_module"]
        plain = not any(p.requires_grad for n in called for p in self._module(n).parameters())
        return plain or any(map(self._weight, called))

    def _end(self, term: fx.Node, path: set[fx.Node], user: fx.Node) -> fx.Node | None:
        own = [n for n in path if n.op == "call_module" and rate_attribute(self._module(n))]
        return max(own, key=self.position.__getitem__) if own else self._last_module(term, user)

    def _last_module(self, node: fx.Node, user: fx.Node) -> fx.Node | None:
        """The call that a branch ends in, seen through factors and what commutes with a factor; None if there is no such."""
        while set(node.users) == {user}:
            inner: fx.Node | None = None
            if node.op == "call_module":
                if self.calls[str(node.target)] == 1:
                    return node
                if isinstance(self._module(node), (nn.ReLU, nn.Dropout, nn.Identity)):  # one module used many times
                    inner = node.all_input_nodes[0]
            elif node.target is operator.getitem and node.args[1] == 0:
                attention = node.all_input_nodes[0]  # the second value that it returns is of no matter to the branch
                if attention.op == "call_module" and isinstance(self._module(attention), nn.MultiheadAttention):
                    return attention if self.calls[str(attention.target)] == 1 else None
            elif node.target in _SCALED or (node.target == "permute" and node.args[1] == 0):
                inner = node.all_input_nodes[0]
            elif node.target in _MUL:
                moving = [n for n in node.all_input_nodes if self._depends_on_input(self.before[n])]
                inner = moving[0] if len(moving) == 1 else None
            if inner is None:
                return None
            node, user = inner, node
        return None

    def _depends_on_input(self, nodes: set[fx.Node]) -> bool:
        return any(n.op == "placeholder" for n in nodes)

    def _module(self, node: fx.Node) -> nn.Module:
        return self.module.get_submodule(str(node.target))

    def _weight(self, node: fx.Node) -> int:
        return sum(map(has_weight, self._module(node).modules())) if node.op == "call_module" else 0
