"""Directives that rename nodes, and remove nodes and components."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nnet.graph.check import sources
from nnet.graph.edits.directive import Directive, EditError, key, log, matching, register
from nnet.graph.network import InputNode, Network, Node
from nnet.graph.rewire import (
    with_sources,
    without_orphan_components,
    without_orphan_nodes,
    without_orphans,
)
from nnet.text import values
from nnet.text.values import boolean, string


@register("rename-node")
@dataclass(frozen=True)
class RenameNode(Directive):
    """Renames a node, everywhere it is read. Its component keeps its name."""

    old_name: str = key(string)
    new_name: str = key(values.name)

    def apply(self, network: Network) -> Network:
        if self.old_name not in network.nodes:
            raise EditError("old-name", f"there is no node '{self.old_name}'", network.nodes)
        if self.new_name in network.nodes:
            raise EditError("new-name", f"there is a node '{self.new_name}' already")
        nodes: dict[str, Node] = {}
        for name, node in network.nodes.items():
            nodes[self._new(name)] = replace(with_sources(node, self._new), name=self._new(name))
        return Network(nodes, network.components)

    def _new(self, name: str) -> str:
        return self.new_name if name == self.old_name else name


@register("remove-output-nodes")
@dataclass(frozen=True)
class RemoveOutputNodes(Directive):
    """Removes the output nodes whose names match; `remove-orphans` then removes the rest."""

    name: str = key(string)

    def apply(self, network: Network) -> Network:
        outputs = [node.name for node in network.outputs()]
        found = matching(outputs, self.name, "output-node")
        if len(found) == len(outputs):
            raise EditError(
                "name",
                f"'{self.name}' matches all output-nodes ({', '.join(outputs)}); one must stay",
            )
        log.info("removed %d output-nodes", len(found))
        kept = {name: node for name, node in network.nodes.items() if name not in found}
        return Network(kept, network.components)


def _logged(before: Network, after: Network) -> Network:
    """`after`, having said what it lacks."""
    for what, old, new in (
        ("nodes", before.nodes, after.nodes),
        ("components", before.components, after.components),
    ):
        if removed := [name for name in old if name not in new]:
            log.info("removed %d orphan %s: %s", len(removed), what, ", ".join(removed))
    return after


@register("remove-orphan-nodes")
@dataclass(frozen=True)
class RemoveOrphanNodes(Directive):
    """Removes the nodes that no output needs."""

    remove_orphan_inputs: bool = key(boolean, False)

    def apply(self, network: Network) -> Network:
        inputs_too = self.remove_orphan_inputs
        return _logged(network, without_orphan_nodes(network, inputs_too=inputs_too))


@register("remove-orphan-inputs")
@dataclass(frozen=True)
class RemoveOrphanInputs(Directive):
    """Removes the input nodes that no other node reads."""

    def apply(self, network: Network) -> Network:
        read = {name for node in network.nodes.values() for name in sources(node)}
        kept = {
            name: node
            for name, node in network.nodes.items()
            if name in read or not isinstance(node, InputNode)
        }
        return _logged(network, Network(kept, network.components))


@register("remove-orphan-components")
@dataclass(frozen=True)
class RemoveOrphanComponents(Directive):
    """Removes the components that no node uses."""

    def apply(self, network: Network) -> Network:
        return _logged(network, without_orphan_components(network))


@register("remove-orphans")
@dataclass(frozen=True)
class RemoveOrphans(Directive):
    """Removes the nodes that no output needs, then the components that no node uses."""

    remove_orphan_inputs: bool = key(boolean, False)

    def apply(self, network: Network) -> Network:
        inputs_too = self.remove_orphan_inputs
        return _logged(network, without_orphans(network, inputs_too=inputs_too))
