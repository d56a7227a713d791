// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/kube/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <array>

namespace sluice::source::tls {

namespace {

using Bio = std::unique_ptr<BIO, Freer<BIO_free>>;

Bio bio(const std::string& pem) { return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))); }

std::string last_error() {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_peek_last_error(), text.data(), text.size());
  ERR_clear_error();
  return text.data();
}

// Without it, OpenSSL asks for the password of an encrypted key on the terminal.
int no_password(char*, int, int, void*) { return -1; }

}  // namespace

Result<std::vector<Certificate>> certificates(const std::string& pem) {
  const auto source = bio(pem);
  std::vector<Certificate> found;
  while (auto* certificate = PEM_read_bio_X509(source.get(), nullptr, no_password, nullptr))
    found.emplace_back(certificate);
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (!at_end) return failure("is not PEM: {}", last_error());
  ERR_clear_error();
  if (found.empty()) return failure("holds no certificate in PEM form");
  return found;
}

Result<Key> key(const std::string& pem) {
  Key found(PEM_read_bio_PrivateKey(bio(pem).get(), nullptr, no_password, nullptr));
  if (!found) return failure("is not an unencrypted private key in PEM form: {}", last_error());
  return found;
}

Result<Store> store(const std::string& pem) {
  auto found = certificates(pem);
  if (!found) return tl::unexpected(found.error());
  Store result(X509_STORE_new());
  if (!result) return failure("out of memory");
  for (const auto& certificate : *found) {
    if (X509_STORE_add_cert(result.get(), certificate.get()) != 1)
      return failure("cannot be used as an authority: {}", last_error());
  }
  return result;
}

bool expect_host(SSL_CTX* context, const std::string& host) {
  auto* parameters = SSL_CTX_get0_param(context);
  X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  if (X509_VERIFY_PARAM_set1_ip_asc(parameters, host.c_str()) == 1) return true;
  ERR_clear_error();
  return X509_VERIFY_PARAM_set1_host(parameters, host.data(), host.size()) == 1;
}

}  // namespace sluice::source::tls
