# SPDX-License-Identifier: Apache-2.0
# The image of the DaemonSet: sluiced, sluicectl, and the CNI binary that sluiced puts on the node.
#   docker build -t sluice:dev .          or without a Docker engine: scripts/image OUT.tar
FROM docker.io/library/debian:bookworm-slim AS dependencies
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      bpftool ccache clang-16 cmake g++ libbpf-dev libc6-dev libcli11-dev libcpp-httplib-dev libelf-dev libexpected-dev \
      libfmt-dev libnl-3-dev libnl-route-3-dev libspdlog-dev libssl-dev libyaml-cpp-dev llvm-16 ninja-build \
      nlohmann-json3-dev pkg-config prometheus-cpp-dev zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*

FROM dependencies AS build
WORKDIR /src
# .dockerignore leaves only what is compiled.
COPY . .
# The compiler cache is a mount: it speeds up the next build and is part of no layer.
RUN --mount=type=cache,target=/root/.cache/ccache \
    cmake --preset release -DSLUICE_TESTS=OFF \
      -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache \
    && cmake --build --preset release --target sluiced sluicectl sluice-cni \
    && mkdir -p /opt/sluice/bin \
    && find build/release -type f -perm -u+x \( -name sluiced -o -name sluicectl -o -name sluice-cni \) \
         -exec install -s -t /opt/sluice/bin {} + \
    && test -x /opt/sluice/bin/sluiced -a -x /opt/sluice/bin/sluicectl -a -x /opt/sluice/bin/sluice-cni

FROM docker.io/library/debian:bookworm-slim
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      libbpf1 libcpp-httplib0.11 libfmt9 libnl-3-200 libnl-route-3-200 libprometheus-cpp-core1.0 libspdlog1.10 libssl3 \
      libyaml-cpp0.7 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/sluice/bin /opt/sluice/bin
ENV PATH=/opt/sluice/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Fails the build, not the node, if a shared library is missing.
RUN sluiced --help > /dev/null && sluicectl --help > /dev/null
ENTRYPOINT ["/opt/sluice/bin/sluiced"]
