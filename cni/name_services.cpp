// SPDX-License-Identifier: Apache-2.0
// libnl can look up hosts and protocols by name. In a static binary glibc would load its name service modules
// from the node's disk for that, of whatever version they are there. Nothing in the plugin asks for a name:
// these stand in for glibc's functions, so that its resolver is not linked in.
#include <netdb.h>

extern "C" {

int getaddrinfo(const char*, const char*, const addrinfo*, addrinfo**) { return EAI_FAIL; }
protoent* getprotobyname(const char*) { return nullptr; }
protoent* getprotobynumber(int) { return nullptr; }

}  // extern "C"
