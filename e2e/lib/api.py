# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes API, spoken from within the control plane's network namespace over one connection."""
import base64
import http.client
import json
import re
import socket
import ssl
import tempfile

from traffic import in_namespace

CORE = "/api/v1"
APPS = "/apis/apps/v1"
NETWORKING = "/apis/networking.k8s.io/v1"


class ApiError(RuntimeError):
    def __init__(self, status, text):
        super().__init__(f"{status}: {text}")
        self.status = status


class Connection(http.client.HTTPSConnection):
    def __init__(self, namespace, host, port, context):
        super().__init__(host, port, timeout=30, context=context)
        self.namespace, self.tls = namespace, context

    def connect(self):
        raw = in_namespace(self.namespace, lambda: socket.create_connection((self.host, self.port), timeout=30))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self.tls.wrap_socket(raw, server_hostname=self.host)


class Api:
    """Not thread-safe: one for each thread."""

    def __init__(self, namespace, kubeconfig):
        text = open(kubeconfig, encoding="utf-8").read()

        def field(name):
            return re.search(rf"^ *{name}: (\S+)$", text, re.M).group(1)
        context = ssl.create_default_context(cadata=base64.b64decode(field("certificate-authority-data")).decode())
        with tempfile.NamedTemporaryFile() as pem:
            for name in ("client-certificate-data", "client-key-data"):
                pem.write(base64.b64decode(field(name)))
            pem.flush()
            context.load_cert_chain(pem.name)
        host, port = re.match(r"https://([^:]+):(\d+)", field("server")).groups()
        self.connection = Connection(namespace, host, int(port), context)

    def call(self, method, path, body=None, content="application/json"):
        data = None if body is None else json.dumps(body)
        for attempt in (1, 2):
            try:
                self.connection.request(method, path, data, {"Content-Type": content})
                answer = self.connection.getresponse()
                text = answer.read().decode()
                break
            except (OSError, http.client.HTTPException):
                self.connection.close()
                if attempt == 2:
                    raise
        if answer.status >= 300:
            raise ApiError(answer.status, text)
        return json.loads(text)

    def get(self, path):
        return self.call("GET", path)

    def items(self, path):
        return self.get(path)["items"]

    def patch(self, path, body):
        """JSON merge patch: None deletes a field."""
        return self.call("PATCH", path, body, "application/merge-patch+json")

    def put_policy(self, policy):
        """Creates or replaces; the resource version is not looked at."""
        folder = f"{NETWORKING}/namespaces/{policy['metadata']['namespace']}/networkpolicies"
        try:
            return self.call("PUT", f"{folder}/{policy['metadata']['name']}", policy)
        except ApiError as error:
            if error.status != 404:
                raise
            return self.call("POST", folder, policy)

    def delete(self, path, grace=None):
        query = "" if grace is None else f"?gracePeriodSeconds={grace}"
        try:
            self.call("DELETE", path + query)
        except ApiError as error:
            if error.status != 404:
                raise
