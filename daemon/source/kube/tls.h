// SPDX-License-Identifier: Apache-2.0
// Certificates and keys from PEM, owned.
#pragma once

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <vector>

#include "common/result.h"

namespace sluice::source::tls {

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Certificate = std::unique_ptr<X509, Freer<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using Store = std::unique_ptr<X509_STORE, Freer<X509_STORE_free>>;

[[nodiscard]] Result<std::vector<Certificate>> certificates(const std::string& pem);  // at least one
[[nodiscard]] Result<Key> key(const std::string& pem);
[[nodiscard]] Result<Store> store(const std::string& pem);

// The server's certificate must have `host`, a name or an address, among its alternative names. httplib would
// also take the subject's common name, which an authority need not have checked (RFC 9525, section 2).
[[nodiscard]] bool expect_host(SSL_CTX* context, const std::string& host);

}  // namespace sluice::source::tls
