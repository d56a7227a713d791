# SPDX-License-Identifier: Apache-2.0
"""Objects that the API server takes and that are as large, or mean as much, as it lets them: what a tenant, or the kubelet of
another node, may write. Sizes are drawn by lot, from small ones to the API server's limit.
"""
import json

LIMIT = 1_400_000  # bytes; etcd refuses more than 1.5 MiB
PROTOCOLS = ("TCP", "UDP", "SCTP")


def metadata(name, ns=None, **more):
    return {"name": name, **({"namespace": ns} if ns else {}), **more}


class Hostile:
    """`apps`: values of the label `app` that pods of this node have in the namespace `ns`."""

    def __init__(self, chance, ns, apps):
        self.chance, self.ns, self.apps = chance, ns, apps
        self.makers = [self.policy_of_blocks, self.policy_of_rules, self.policy_of_names, self.policy_of_ports,
                       self.policy_of_selectors, self.policy_of_exceptions, self.policy_for_nobody, self.service_of_ports,
                       self.service_of_addresses, self.service_of_ranges, self.node_ports, self.slice, self.pod_of_labels,
                       self.pod_of_ports, self.node, self.namespace]

    def some(self):
        """(kind in the API's path, object, what it is)"""
        maker = self.chance.choice(self.makers)
        kind, item, size = maker()
        return kind, item, f"{maker.__name__} {item['metadata']['name']} {size}, {len(json.dumps(item)) // 1024} KiB"

    # ---- numbers and addresses
    def size(self, most):
        """From 1 to `most`, each power of ten as likely as the others; sometimes exactly `most`."""
        if self.chance.random() < 0.2:
            return most
        return max(1, int(most ** self.chance.random()))

    def address(self):
        return ".".join(str(self.chance.randrange(1, 255)) for _ in range(4)).replace("127.", "126.", 1)

    def addresses(self, count):
        first = self.chance.randrange(20, 100) << 24
        return [".".join(str((first + n * 3) >> shift & 255) for shift in (24, 16, 8, 0)) for n in range(1, count + 1)]

    def port(self):
        return self.chance.randrange(1, 65536)

    # ---- NetworkPolicies
    def policy(self, rules, app=None):
        spec = {"podSelector": {"matchLabels": {"app": app or self.chance.choice(self.apps)}} if self.chance.random() < 0.8 else {},
                "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []}
        way = self.chance.choice(["ingress", "egress"])
        end = "from" if way == "ingress" else "to"
        spec[way] = [{**({end: peers} if peers is not None else {}), **({"ports": ports} if ports else {})}
                     for peers, ports in rules]
        return {"metadata": metadata(f"p{self.chance.randrange(60)}", self.ns), "spec": spec}

    def policy_of_blocks(self):
        count = self.size(20000)
        return "networkpolicies", self.policy([([{"ipBlock": {"cidr": f"{a}/32"}} for a in self.addresses(count)], None)]), count

    def policy_of_rules(self):
        count = self.size(8000)
        return "networkpolicies", self.policy([([{"ipBlock": {"cidr": f"{a}/32"}}], [{"protocol": "TCP", "port": 1 + n % 65535}])
                                               for n, a in enumerate(self.addresses(count))]), count

    def policy_of_names(self):
        blocks, names = self.size(6000), self.size(6000)
        return "networkpolicies", self.policy([([{"ipBlock": {"cidr": f"{a}/32"}} for a in self.addresses(blocks)],
                                                [{"protocol": "TCP", "port": f"n{n}"} for n in range(names)])]), (blocks, names)

    def policy_of_ports(self):
        count = self.size(20000)
        ports = [{"protocol": self.chance.choice(PROTOCOLS), "port": 1 + n * 3, "endPort": 1 + n * 3 + self.chance.randrange(2)}
                 for n in range(count)]
        return "networkpolicies", self.policy([(None if self.chance.random() < 0.5 else [{"podSelector": {}}], ports)]), count

    def policy_of_selectors(self):
        count, values = self.size(300), self.size(300)
        peers = [{self.chance.choice(["podSelector", "namespaceSelector"]): {"matchExpressions": [
            {"key": f"k{n % 50}", "operator": self.chance.choice(["In", "NotIn"]), "values": [f"v{n}-{m}" for m in range(values)]}]}}
                 for n in range(count)]
        return "networkpolicies", self.policy([(peers, None)]), (count, values)

    def policy_of_exceptions(self):
        count = self.size(6000)
        return "networkpolicies", self.policy([
            ([{"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"{a}/32"]}}], [{"protocol": "TCP", "port": 1 + n % 65535}])
            for n, a in enumerate(self.addresses(count))]), count

    def policy_for_nobody(self):
        count = self.size(40000)
        return "networkpolicies", self.policy([([{"ipBlock": {"cidr": f"{a}/32"}} for a in self.addresses(count)], None)],
                                              app="nobody"), count

    # ---- Services
    def service(self, ports, **spec):
        name = f"s{self.chance.randrange(20)}"
        number = int(name[1:])
        balancers = spec.pop("balancers", [])
        return {"metadata": metadata(name, self.ns),
                "spec": {"type": "ClusterIP", "clusterIP": f"10.96.9.{number + 1}", "clusterIPs": [f"10.96.9.{number + 1}"],
                         "ports": ports, **spec},
                "status": {"loadBalancer": {"ingress": [{"ip": a} for a in balancers]}}}

    def ports(self, count):
        return [{"name": f"p{n}", "protocol": "TCP", "port": 1 + n, "targetPort": self.port()} for n in range(count)]

    def service_of_ports(self):
        count = self.size(15000)
        return "services", self.service(self.ports(count)), count

    def service_of_addresses(self):
        ports, addresses = self.size(4000), self.size(20000)
        listed = {self.chance.choice(["externalIPs", "balancers"]): self.addresses(addresses)}
        return "services", self.service(self.ports(ports), type="LoadBalancer", **listed), (ports, addresses)

    def service_of_ranges(self):
        count = self.size(20000)
        return "services", self.service(self.ports(10), type="LoadBalancer", balancers=self.addresses(10),
                                        loadBalancerSourceRanges=[f"{a}/32" for a in self.addresses(count)]), count

    def node_ports(self):
        count = self.size(2700)
        return "services", self.service([{**p, "nodePort": 30000 + n} for n, p in enumerate(self.ports(count))], type="NodePort",
                                        sessionAffinity=self.chance.choice(["None", "ClientIP"])), count

    def slice(self):
        service, endpoints, ports = f"s{self.chance.randrange(20)}", self.size(1000), self.size(15000)
        return "endpointslices", {
            "metadata": metadata(f"{service}-{self.chance.randrange(30)}", self.ns, labels={"kubernetes.io/service-name": service}),
            "addressType": "IPv4", "ports": [{"name": f"p{n}", "protocol": "TCP", "port": self.port()} for n in range(ports)],
            "endpoints": [{"addresses": [a], "conditions": {"ready": self.chance.random() < 0.9},
                           "nodeName": f"n{n % 5}"} for n, a in enumerate(self.addresses(endpoints))]}, (endpoints, ports)

    # ---- Pods, Nodes, Namespaces
    def pod(self, labels=None, ports=()):
        number = self.chance.randrange(200)
        return {"metadata": metadata(f"remote{number}", self.ns, uid=f"remote{number}",
                                     labels={"app": self.chance.choice(self.apps), **(labels or {})}),
                "spec": {"nodeName": "elsewhere", "containers": [{"name": "c", "ports": list(ports)}]},
                "status": {"podIPs": [{"ip": self.address()}], "phase": "Running"}}

    def pod_of_labels(self):
        count = self.size(30000)
        return "pods", self.pod({f"k{n}": f"v{self.chance.randrange(50)}" for n in range(count)}), count

    def pod_of_ports(self):
        count = self.size(15000)
        return "pods", self.pod(ports=[{"name": f"n{n}", "protocol": "TCP", "containerPort": 1 + n} for n in range(count)]), count

    def node(self):
        number, count = self.chance.randrange(100), self.size(15000)
        return "nodes", {"metadata": metadata(f"elsewhere{number}"), "spec": {"podCIDRs": [f"10.{100 + number}.0.0/24"]},
                         "status": {"addresses": [{"type": "InternalIP", "address": a} for a in self.addresses(count)]}}, count

    def namespace(self):
        count = self.size(30000)
        return "namespaces", {"metadata": metadata(f"tenant{self.chance.randrange(50)}",
                                                   labels={f"k{n}": f"v{n}" for n in range(count)})}, count
