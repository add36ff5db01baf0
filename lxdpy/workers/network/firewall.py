"""nftables by libnftables."""

from typing import Any

import nftables

from lxdpy.drivers.base import BridgeSpec
from lxdpy.drivers.network import rules
from lxdpy.errors import WorkerError

_FAMILIES = ("ip", "ip6")


class Firewall:
    """nftables of this network namespace: what iptables' own tables hold, and transactions on all."""

    def __init__(self, attempt: str) -> None:
        self._attempt = attempt
        self._nft = nftables.Nftables()
        self._nft.set_handle_output(True)
        self.filter_rules: list[dict[str, Any]] = []
        """Of the tables `filter`, in order."""
        self._filter_chains: dict[tuple[str, str], dict[str, Any]] = {}
        for family in _FAMILIES:
            self._read_filter(family)

    def apply(self, commands: list[rules.Command]) -> None:
        """Run all commands in one transaction, or none. Raises WorkerError."""
        self._run(commands)

    def accepts(self, bridge: BridgeSpec) -> list[rules.Command]:
        """What it takes for a bridge's packets to pass the tables `filter` that drop by policy."""
        commands: list[rules.Command] = []
        for family in rules.families(bridge):
            if self._drops(family, rules.FORWARD_CHAIN):
                commands += rules.forward_accepts(bridge.name, family, self._forward_chain(family))
            if self._drops(family, rules.INPUT_CHAIN):
                commands += rules.input_accepts(bridge.name, family)
        return commands

    def _read_filter(self, family: str) -> None:
        tables = self._run([{"list": {"tables": {"family": family}}}])
        if not any(entry.get("table", {}).get("name") == rules.FILTER_TABLE for entry in tables):
            return
        for entry in self._run([{"list": {"table": {"family": family, "name": rules.FILTER_TABLE}}}]):
            if "chain" in entry:
                self._filter_chains[family, entry["chain"]["name"]] = entry["chain"]
            elif "rule" in entry:
                self.filter_rules.append(entry["rule"])

    def _drops(self, family: str, chain: str) -> bool:
        return bool(self._filter_chains.get((family, chain), {}).get("policy") == "drop")

    def _forward_chain(self, family: str) -> str:
        """Where rules on forwarded packets belong: docker leaves DOCKER-USER alone, and rewrites the rest."""
        leads_to_docker = any(
            (rule["family"], rule["chain"]) == (family, rules.FORWARD_CHAIN)
            and {"jump": {"target": rules.DOCKER_CHAIN}} in rule.get("expr", ())
            for rule in self.filter_rules
        )
        return rules.DOCKER_CHAIN if leads_to_docker else rules.FORWARD_CHAIN

    def _run(self, commands: list[rules.Command]) -> list[dict[str, Any]]:
        status, output, error = self._nft.json_cmd({"nftables": commands})
        if status != 0:
            raise WorkerError(f"{self._attempt}: nftables refuses its rules: {error.strip()}")
        return list(output["nftables"]) if output else []
