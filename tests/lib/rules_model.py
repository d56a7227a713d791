# SPDX-License-Identifier: Apache-2.0
"""What pods may send to each other, told by a small model of its own: pods in two namespaces, default deny, rules by the
label `team`. It shares nothing with the daemon's evaluator, so that a mistake in one is not a mistake in both.

Objects are plain dicts by name; each has "kind" (pod, policy or namespace) and "usable". A World is what one daemon may
have in force: the objects as it last could use them, and for each sandbox the team that its pod had when last seen.
"""
import json


class Sandbox:
    """One attachment: it keeps its address and UID whatever becomes of the Pod object."""

    def __init__(self, ns, pod, uid, address):
        self.ns, self.pod, self.uid, self.address = ns, pod, uid, address
        self.key = f"pod-{ns}-{pod}"

    def is_of(self, pod):
        return pod is not None and pod["uid"] == self.uid


class World:
    def __init__(self, objects, teams):
        self.objects, self.teams = objects, teams  # {name: dict}, {sandbox key: team}
        self.id = json.dumps((objects, teams), sort_keys=True)

    def __eq__(self, other):
        return self.id == other.id

    def __hash__(self):
        return hash(self.id)

    def seeing(self, folder, sandboxes, restarted):
        """The same after a look at the folder. An object that cannot be used keeps its meaning while the daemon lives;
        a daemon that starts does not know it: a policy is closed then, anything else is left out."""
        objects = {}
        for name, told in folder.items():
            if told["usable"]:
                objects[name] = told
            elif not restarted and name in self.objects:
                objects[name] = self.objects[name]
            elif told["kind"] == "policy":
                objects[name] = {**told, "peers": []}
        teams = dict(self.teams)
        for sandbox in sandboxes:
            pod = objects.get(sandbox.key)
            if sandbox.is_of(pod):
                teams[sandbox.key] = pod["team"]
        return World(objects, teams)

    def owner(self, address, sandboxes):
        """The Pod object that an address outside of the node's podCIDR belongs to, or None."""
        attached = {s.key: s for s in sandboxes}
        claims = [(pod["terminating"], -pod["created"], pod["ns"], pod["name"], pod) for name, pod in self.objects.items()
                  if pod["kind"] == "pod" and address in pod["ips"] and not (name in attached and attached[name].is_of(pod))]
        return min(claims, key=lambda claim: claim[:4])[4] if claims else None

    def admitted(self, sandboxes, outside):
        """The pairs (source, destination) of addresses that may send; `outside`: addresses of no sandbox."""
        parties = {s.address: (s.ns, self.teams[s.key]) for s in sandboxes}
        for address in outside:
            pod = self.owner(address, sandboxes)
            parties[address] = (pod["ns"], pod["team"]) if pod else None
        inside = {s.address for s in sandboxes}
        return {(a, b) for a in parties for b in parties
                if a != b and (a in inside or b in inside)
                and (a not in inside or self._may(parties[a], "egress", b, parties[b]))
                and (b not in inside or self._may(parties[b], "ingress", a, parties[a]))}

    def _may(self, subject, direction, address, peer):
        ns, team = subject
        policies = [p for p in self.objects.values() if p["kind"] == "policy" and p["ns"] == ns
                    and direction in p["directions"] and p["team"] in (None, team)]
        return not policies or any(self._matches(ns, rule, address, peer) for p in policies for rule in p["peers"])

    def _matches(self, ns, rule, address, peer):
        what, value = rule
        if what == "block":
            return address == value
        if peer is None or value not in (None, peer[1]):
            return False
        if what == "same namespace":
            return peer[0] == ns
        return self.objects.get(f"namespace-{peer[0]}", {}).get("trusted", False)  # "trusted namespace"


def to_kubernetes(told):
    """The object as it stands in the folder."""
    metadata = {"name": told["name"], **({"namespace": told["ns"]} if "ns" in told else {})}
    if told["kind"] == "namespace":
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {**metadata, "labels": {"trusted": str(told["trusted"])}}}
    if told["kind"] == "pod":
        metadata |= {"uid": told["uid"], "labels": {"team": told["team"]},
                     "creationTimestamp": f"2026-01-01T00:{told['created'] // 60:02}:{told['created'] % 60:02}Z"}
        if told["terminating"]:
            metadata["deletionTimestamp"] = "2026-01-02T00:00:00Z"
        addresses = told["ips"] if told["usable"] else ["300.1.1.1"]
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": told["node"]},
                "status": {"podIPs": [{"ip": address} for address in addresses]}}

    def selector(team):
        return {"matchLabels": {"team": team}} if team else {}

    def peer(what, value):
        if what == "block":
            return {"ipBlock": {"cidr": f"{value}/32"}}
        of_namespace = {"namespaceSelector": {"matchLabels": {"trusted": "True"}}} if what == "trusted namespace" else {}
        return {"podSelector": selector(value), **of_namespace}

    peers = [peer(*rule) for rule in told["peers"]]
    if not told["usable"]:
        peers.append({"ipBlock": {"cidr": "10.0.0.0/99"}})
    spec = {"podSelector": selector(told["team"]), "policyTypes": [d.capitalize() for d in told["directions"]]}
    for direction, ends in (("ingress", "from"), ("egress", "to")):
        if direction in told["directions"]:
            spec[direction] = [{ends: peers}] if peers else []
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
