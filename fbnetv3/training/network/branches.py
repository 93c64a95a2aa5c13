"""The residual branches of a network.

They are found in sums. The `forward` of every module is traced by torch.fx, with the module's children as units. If both terms
of a sum depend on one value, the term that passed more layers with weights is the branch, and the other term is the shortcut.
A shortcut without such layers must have no parameters at all: a norm alone next to a convolution is one of several equal
terms, as in RepVGG, and no shortcut. Sums without a clear branch and modules that cannot be traced are listed, so that the
user knows that the result may be incomplete.
"""

from __future__ import annotations

import inspect
import operator
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import fx, nn
from torch.nn import functional as F

# Classes for stochastic depth by name (the code is often copied from timm), and the attribute that holds the rate:
# this package's and torchvision's StochasticDepth, and timm's DropPath.
_RATE_ATTRIBUTES = {"StochasticDepth": ("rate", "p"), "DropPath": ("drop_prob",)}
_ADD = (operator.add, operator.iadd, torch.add, "add", "add_")
_MUL = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
_SCALED = (F.dropout, F.relu, torch.relu, "relu", "relu_", "contiguous")  # f(c * x) = c * f(x) for c >= 0


@dataclass
class Branches:
    """The residual branches of a model.

    Attributes:
        ends: name of the last module of every branch, in the order of registration, and the axis of the samples there.
        inside: ids of all modules in branches.
        left: names of the modules with a sum in which no branch is clear.
        untraced: names of the modules whose `forward` cannot be traced.
    """

    ends: dict[str, int] = field(default_factory=dict)
    inside: set[int] = field(default_factory=set)
    left: list[str] = field(default_factory=list)
    untraced: list[str] = field(default_factory=list)


def find_branches(model: nn.Module) -> Branches:
    """Return the residual branches of `model`. A branch with a module for stochastic depth ends there."""
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
    """Return the attribute that holds the rate, if the module's class is named `StochasticDepth` or `DropPath`."""
    names = _RATE_ATTRIBUTES.get(type(module).__name__, ())
    return next((name for name in names if hasattr(module, name)), None)


def has_weight(module: nn.Module) -> bool:
    """Whether the module itself has weights. Convolutions, linear layers and attention have weights; norms have none."""
    return any(parameter.dim() >= 2 for parameter in module.parameters(recurse=False))


def _sample_axis(module: nn.Module) -> int:
    """Return the axis of the samples in a block: the first, unless an attention in the block has `batch_first=False`."""
    return int(any(isinstance(m, nn.MultiheadAttention) and not m.batch_first for m in module.children()))


class _Tracer(fx.Tracer):
    """Traces the `forward` of one module. Its children are units."""

    # Without this, fx would trace into all modules that are not torch's.
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _trace(module: nn.Module) -> fx.Graph | None:
    """Return the graph of the module's `forward` in training, with optional arguments at their defaults, or None."""
    training, module.training = module.training, True
    try:
        parameters = inspect.signature(module.forward).parameters.values()
        return _Tracer().trace(module, {p.name: p.default for p in parameters if p.default is not p.empty})
    except Exception:  # code that runs on proxies instead of tensors may raise anything; `untraced` names the module
        return None
    finally:
        module.training = training


class _Sums:
    """The residual branches in the graph of one module.

    Attributes:
        ends: the last module of every branch.
        inside: all modules in branches.
        left: sums in which no branch is clear.
    """

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        self.module = module
        self.calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
        self.ends: list[nn.Module] = []
        self.inside: list[nn.Module] = []
        self.left: list[str] = []
        self.position = {node: i for i, node in enumerate(graph.nodes)}
        self.before: dict[fx.Node, set[fx.Node]] = {}  # for every node: itself and all nodes that it depends on
        self.residual: set[fx.Node] = set()  # the residual sums that were found so far
        for node in graph.nodes:
            self.before[node] = {node}.union(*(self.before[n] for n in node.all_input_nodes))
            if node.target in _ADD and len(node.args) >= 2 and all(isinstance(a, fx.Node) for a in node.args[:2]):
                self._sum(node)

    def _sum(self, node: fx.Node) -> None:
        terms = [term for term in node.args[:2] if isinstance(term, fx.Node)]
        common = self.before[terms[0]] & self.before[terms[1]]
        if not self._depends_on_input(common):
            return  # the sum adds parameters, such as a position embedding
        # The two terms separate at the last node that both depend on.
        fork = max(common, key=self.position.__getitem__)
        paths = [self.before[term] - self.before[fork] for term in terms]
        # In x + f(x) + g(x), the term x + f(x) is the shortcut around g, although it passed layers with weights.
        weights = [0 if t in self.residual else sum(map(self._weight, p)) for t, p in zip(terms, paths, strict=True)]
        if weights == [0, 0]:
            return
        branch, shortcut = (0, 1) if weights[0] > weights[1] else (1, 0)
        end = self._end(terms[branch], paths[branch], node)
        if weights[0] == weights[1] or end is None or not self._may_be_shortcut(terms[shortcut], paths[shortcut]):
            self.left.append(str(node))
            return
        self.residual.add(node)
        self.ends.append(self._module(end))
        self.inside.extend(self._module(n) for n in paths[branch] if n.op == "call_module")

    def _may_be_shortcut(self, term: fx.Node, path: set[fx.Node]) -> bool:
        if term in self.residual:
            return True
        if any(n.target is operator.getitem and isinstance(n.args[1], int) for n in path):
            return False  # one part of a divided value is no shortcut around the other parts
        called = [n for n in path if n.op == "call_module"]
        plain = not any(p.requires_grad for n in called for p in self._module(n).parameters())
        return plain or any(map(self._weight, called))

    def _end(self, term: fx.Node, path: set[fx.Node], user: fx.Node) -> fx.Node | None:
        drops = [n for n in path if n.op == "call_module" and rate_attribute(self._module(n))]
        return max(drops, key=self.position.__getitem__) if drops else self._last_module(term, user)

    def _last_module(self, node: fx.Node, user: fx.Node) -> fx.Node | None:
        """Return the call in which a branch ends, or None if there is no such call.

        Dropping the output of that call must drop the branch. Going backwards from the sum, factors may therefore be passed,
        and operations that commute with a factor. A value that is also used elsewhere must not be dropped.
        """
        while set(node.users) == {user}:
            inner: fx.Node | None = None
            if node.op == "call_module":
                if self.calls[str(node.target)] == 1:
                    return node
                # A module that is called several times cannot be hooked; one that commutes with a factor can be passed.
                if isinstance(self._module(node), (nn.ReLU, nn.Dropout, nn.Identity)):
                    inner = node.all_input_nodes[0]
            elif node.target is operator.getitem and node.args[1] == 0:
                attention = node.all_input_nodes[0]  # attention returns the output and the attention weights
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
