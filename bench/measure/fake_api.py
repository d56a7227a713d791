# SPDX-License-Identifier: Apache-2.0
"""An API server with as many pods and Services as wanted: lists by pages, watches that tell what is pushed. Objects are as
large as real ones."""
import json
import os
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAMESPACES, NODES, APPS = 50, 100, 100
VERSION = 100000  # of the lists


def pod(i):
    """With what kubelet, scheduler and a Deployment write into a pod; about 6 KB."""
    name, app, node = f"app{i % APPS}-7d9c{i % APPS:04x}-{i:05x}", f"app{i % APPS}", f"node{i % NODES}"
    times = "2026-01-31T11:58:30Z"
    mounts = [{"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": "kube-api-access", "readOnly": True}]
    fields = {f"f:{key}": {".": {}, "f:name": {}, "f:value": {}, "f:valueFrom": {"f:secretKeyRef": {}}}
              for key in ("spec", "status", "metadata", "containers", "volumes", "conditions", "env", "resources")}
    env = [{"name": f"SETTING_{k}", "value": f"value-of-setting-{k}-{app}"} for k in range(12)]
    conditions = [{"lastProbeTime": None, "lastTransitionTime": times, "status": "True", "type": kind} for kind in
                  ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")]
    return {
        "metadata": {"name": name, "generateName": f"{app}-7d9c-", "namespace": f"ns{i % NAMESPACES}",
                     "uid": f"{i:08x}-0000-4000-8000-000000000000", "resourceVersion": str(1000 + i),
                     "creationTimestamp": times,
                     "labels": {"app": app, "pod-template-hash": f"7d9c{i % APPS:04x}",
                                "app.kubernetes.io/name": app, "app.kubernetes.io/instance": f"{app}-main",
                                "app.kubernetes.io/managed-by": "Helm", "tier": f"t{i % 5}"},
                     "annotations": {"checksum/config": f"{i % APPS:064x}", "prometheus.io/scrape": "true"},
                     "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{app}-7d9c",
                                          "uid": "00000000-0000-4000-8000-000000000001", "controller": True}],
                     "managedFields": [{"manager": m, "operation": "Update", "apiVersion": "v1", "time": times,
                                        "fieldsType": "FieldsV1", "fieldsV1": fields}
                                       for m in ("kube-controller-manager", "kubelet")]},
        "spec": {"nodeName": node, "serviceAccountName": app, "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
                 "volumes": [{"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": [
                     {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}]}}],
                 "containers": [{"name": app, "image": f"registry.example/team/{app}:1.2.3", "env": env,
                                 "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"},
                                           {"name": "metrics", "containerPort": 9090, "protocol": "TCP"}],
                                 "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                                 "volumeMounts": mounts}]},
        "status": {"phase": "Running", "hostIP": f"10.10.{i % NODES}.1", "podIP": address(i),
                   "podIPs": [{"ip": address(i)}], "qosClass": "Burstable", "startTime": times,
                   "conditions": conditions,
                   "containerStatuses": [{"name": app, "ready": True, "started": True, "restartCount": 0,
                                          "image": f"registry.example/team/{app}:1.2.3",
                                          "containerID": f"containerd://{i:064x}",
                                          "imageID": f"registry.example/team/{app}@sha256:{i % APPS:064x}",
                                          "state": {"running": {"startedAt": times}}}]}}


def address(i):
    return f"10.{128 + i // 65536}.{i // 256 % 256}.{i % 256}"


def policy(i):
    app = f"app{i % APPS}"
    return {"metadata": {"name": f"policy{i}", "namespace": f"ns{i % NAMESPACES}", "resourceVersion": "1", "uid": f"p{i}"},
            "spec": {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Ingress"],
                     "ingress": [{"from": [{"podSelector": {"matchLabels": {"tier": f"t{i % 5}"}}},
                                           {"namespaceSelector": {"matchLabels": {"team": f"t{i % 4}"}}}],
                                  "ports": [{"protocol": "TCP", "port": "http"}]}]}}


def objects(pods, policies, node, pod_cidr):
    nodes = [{"metadata": {"name": node, "resourceVersion": "1"}, "spec": {"podCIDRs": [pod_cidr]},
              "status": {"addresses": []}}]
    nodes += [{"metadata": {"name": f"node{i}", "resourceVersion": "1"},
               "spec": {"podCIDRs": [f"10.{100 + i // 256}.{i % 256}.0/24"]},
               "status": {"addresses": [{"type": "InternalIP", "address": f"10.10.{i}.1"}]}} for i in range(NODES)]
    namespaces = [{"metadata": {"name": f"ns{i}", "resourceVersion": "1", "labels": {"team": f"t{i % 4}"}}}
                  for i in range(NAMESPACES)]
    return {"nodes": nodes, "namespaces": namespaces, "pods": [pod(i) for i in range(pods)],
            "networkpolicies": [policy(i) for i in range(policies)]}


def service(i, cluster_ip):
    name = f"service{i}"
    return {"metadata": {"name": name, "namespace": f"ns{i % NAMESPACES}", "uid": f"{i:08x}-0000-4000-8000-000000000002",
                         "resourceVersion": str(1000 + i), "labels": {"app": name, "app.kubernetes.io/managed-by": "Helm"}},
            "spec": {"type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "ipFamilies": ["IPv4"],
                     "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
                     "selector": {"app": name}, "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 9000}]},
            "status": {"loadBalancer": {}}}


def endpoint_slice(i, addresses):
    name, namespace = f"service{i}", f"ns{i % NAMESPACES}"
    return {"metadata": {"name": f"{name}-abcde", "generateName": f"{name}-", "namespace": namespace, "resourceVersion": str(1000 + i),
                         "uid": f"{i:08x}-0000-4000-8000-000000000003",
                         "labels": {"kubernetes.io/service-name": name, "app": name,
                                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
            "addressType": "IPv4", "ports": [{"name": "http", "protocol": "TCP", "port": 9000}],
            "endpoints": [{"addresses": [a], "conditions": {"ready": True, "serving": True, "terminating": False},
                           "nodeName": f"node{k % NODES}", "targetRef": {"kind": "Pod", "namespace": namespace, "name": f"{name}-{k}",
                                                                         "uid": f"{i:08x}-0000-4000-8000-{k:012x}"}}
                          for k, a in enumerate(addresses)]}


KINDS = {"nodes": ("v1", "Node"), "namespaces": ("v1", "Namespace"), "pods": ("v1", "Pod"), "services": ("v1", "Service"),
         "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy"), "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
         "servicecidrs": ("networking.k8s.io/v1", "ServiceCIDR")}


def kubeconfig(folder, port, host="127.0.0.1"):
    """For the API on that port of the host. Its path."""
    path = os.path.join(folder, "kubeconfig")
    with open(path, "w", encoding="utf-8") as file:
        file.write("apiVersion: v1\nkind: Config\ncurrent-context: c\nusers: [{name: u, user: {}}]\n"
                   "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
                   f"clusters: [{{name: c, cluster: {{server: 'http://{host}:{port}'}}}}]\n")
    return path


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener, lists):
        super().__init__(listener.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.objects = {kind: {self.key(o): self.text(kind, o) for o in lists.get(kind, [])} for kind in KINDS}
        self.pushed, self.changed = [], threading.Condition()
        self.forgotten = 0  # so many of `pushed` are not kept
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """Clients end when they like."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @staticmethod
    def key(item):
        return item["metadata"].get("namespace"), item["metadata"]["name"]

    @staticmethod
    def text(kind, item):
        return json.dumps({"apiVersion": KINDS[kind][0], "kind": KINDS[kind][1], **item})

    def push(self, kind, item, event="MODIFIED"):
        """Tells the watchers what happened to the object. The time at which they are told."""
        with self.changed:
            item["metadata"]["resourceVersion"] = str(VERSION + 1 + len(self.pushed))
            text = self.text(kind, item)
            self.pushed.append((kind, f'{{"type":"{event}","object":{text}}}\n'.encode()))
            if event == "DELETED":
                self.objects[kind].pop(self.key(item), None)
            else:
                self.objects[kind][self.key(item)] = text
            self.changed.notify_all()
            return time.monotonic()

    def forget(self, kept):
        """All events but the last `kept`: who watches from before has to list again."""
        with self.changed:
            last = max(self.forgotten, len(self.pushed) - kept)
            self.pushed[self.forgotten:last] = [None] * (last - self.forgotten)
            self.forgotten = last


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        kind = url.path.rsplit("/", 1)[1]
        if kind not in KINDS:
            self.send_error(404)
        elif "sendInitialEvents" in query:  # lists by a watch: clients then ask for a plain one
            self.send(422, b'{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}')
        elif "watch" in query:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.watch(kind, query)
        else:
            self.list(kind, query)

    def list(self, kind, query):
        with self.server.changed:
            items, now = list(self.server.objects[kind].values()), VERSION + len(self.server.pushed)
        first, version = map(int, query.get("continue", f"0-{now}").split("-"))
        limit = int(query.get("limit", len(items) or 1))
        more = {"continue": f"{first + limit}-{version}"} if first + limit < len(items) else {}
        metadata = json.dumps({"resourceVersion": str(version), **more})
        api, name = KINDS[kind]
        self.send(200, (f'{{"apiVersion":"{api}","kind":"{name}List","metadata":{metadata},'
                        f'"items":[{",".join(items[first:first + limit])}]}}').encode())

    def send(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def watch(self, kind, query):
        seen = max(0, int(query.get("resourceVersion") or VERSION) - VERSION)
        end = time.monotonic() + float(query.get("timeoutSeconds", 600))
        while (left := end - time.monotonic()) > 0:
            with self.server.changed:
                self.server.changed.wait_for(lambda: len(self.server.pushed) > seen, left)
                gone, new = seen < self.server.forgotten, self.server.pushed[seen:]
            if gone:
                line = b'{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}}\n'
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n0\r\n\r\n")
                return
            seen += len(new)
            for of, line in new:
                if of == kind:
                    self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def do_POST(self):  # events
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send(201, b"{}")
