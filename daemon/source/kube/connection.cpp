// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/kube/connection.h"

#include <httplib.h>
#include <netinet/tcp.h>
#include <openssl/x509_vfy.h>

#include <algorithm>
#include <charconv>

#include "daemon/source/kube/decode.h"
#include "daemon/source/kube/tls.h"

namespace sluice::source {

namespace {

constexpr const char* kNoFolder = "/dev/null";
constexpr std::size_t kErrorBodyMost = 16384;
constexpr std::chrono::seconds kRetryAfterMost{120};

// A peer that is gone without a word is noticed after a minute, well before the read timeout of a quiet
// watch.
void set_socket_options(int socket) {
  const auto set = [socket](int level, int name, int value) {
    ::setsockopt(socket, level, name, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 30);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 60'000);
  set(IPPROTO_TCP, TCP_NODELAY, 1);
}

std::chrono::milliseconds retry_after(const httplib::Response& response) {
  // Seconds; Kubernetes never sends the other form, a date.
  const auto value = response.get_header_value("Retry-After");
  unsigned seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  if (error != std::errc() || end != value.data() + value.size()) return {};
  return std::min<std::chrono::milliseconds>(std::chrono::seconds(seconds), kRetryAfterMost);
}

std::string trimmed(const std::string& text) {
  const auto begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

const char* advice(int status) {
  switch (status) {
    case 401:
      return " (the token or client certificate is not accepted: is it expired, or of another cluster?)";
    case 403:
      return " (bind the ClusterRole of Sluice's chart to this identity)";
    case 404:
      return " (is this a Kubernetes API server?)";
    default:
      return "";
  }
}

}  // namespace

std::string percent_encode(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

Connection::Connection(const KubeConfig& config, std::shared_ptr<Interrupter> interrupter)
    : config_(config), interrupter_(std::move(interrupter)) {}

Connection::~Connection() { interrupter_->detach(); }

Result<std::unique_ptr<Connection>> Connection::make(const KubeConfig& config, const Timeouts& timeouts,
                                                     std::shared_ptr<Interrupter> interrupter) {
  std::unique_ptr<Connection> connection(new Connection(config, interrupter));
  if (config.tls) {
    if (auto opened = connection->open_tls(); !opened) return tl::unexpected(opened.error());
  } else {
    connection->client_ = std::make_unique<httplib::ClientImpl>(config.host, config.port);
  }
  auto& client = *connection->client_;
  httplib::Headers headers = {{"Host", config.authority()},
                              {"Accept", "application/json"},
                              // Whole compressed blocks would hold events back.
                              {"Accept-Encoding", "identity"},
                              {"User-Agent", "sluiced/" SLUICE_VERSION}};
  if (config.token.given()) {
    const auto token = config.token.load("bearer token");
    if (!token) return tl::unexpected(token.error());
    const auto value = trimmed(*token);
    if (value.find_first_of("\r\n") != std::string::npos)
      return failure("bearer token: {} holds more than one line", config.token.file);
    headers.emplace("Authorization", "Bearer " + value);
  }
  client.set_default_headers(std::move(headers));
  client.set_connection_timeout(timeouts.connect);
  client.set_read_timeout(timeouts.read);
  client.set_write_timeout(timeouts.connect);
  client.set_keep_alive(true);
  client.set_url_encode(false);
  client.set_decompress(false);
  client.set_socket_options([interrupter](int socket) {
    set_socket_options(socket);
    interrupter->attach(socket);
  });
  return connection;
}

Result<void> Connection::open_tls() {
  tls::Key key;
  std::vector<tls::Certificate> chain;
  if (config_.certificate.given()) {
    const auto certificate_pem = config_.certificate.load("client certificate");
    if (!certificate_pem) return tl::unexpected(certificate_pem.error());
    const auto key_pem = config_.key.load("client key");
    if (!key_pem) return tl::unexpected(key_pem.error());
    auto certificates = tls::certificates(*certificate_pem);
    if (!certificates)
      return with_context(certificates.error(), "client certificate " + config_.certificate.file);
    auto parsed_key = tls::key(*key_pem);
    if (!parsed_key) return with_context(parsed_key.error(), "client key " + config_.key.file);
    chain = std::move(*certificates);
    key = std::move(*parsed_key);
    if (X509_check_private_key(chain.front().get(), key.get()) != 1)
      return failure(
          "client certificate {}: the key {} is not its key (or one of them is about to be replaced)",
          config_.certificate.file, config_.key.file);
  }
  auto client = chain.empty() ? std::make_unique<httplib::SSLClient>(config_.host, config_.port)
                              : std::make_unique<httplib::SSLClient>(config_.host, config_.port,
                                                                     chain.front().get(), key.get());
  auto* context = client->ssl_context();
  if (!client->is_valid() || context == nullptr) return failure("TLS cannot be set up for {}", config_.url());
  for (std::size_t i = 1; i < chain.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(context, chain[i].get()) != 1)
      return failure("client certificate {}: its chain cannot be used", config_.certificate.file);
  }
  if (config_.ca.given()) {
    const auto pem = config_.ca.load("certificate authority");
    if (!pem) return tl::unexpected(pem.error());
    auto store = tls::store(*pem);
    if (!store) return with_context(store.error(), "certificate authority " + config_.ca.file);
    // Not set_ca_cert_store(): to that store httplib adds the system's authorities, and none of them may
    // vouch for the API server. The store for verification is asked instead of it.
    if (SSL_CTX_set1_verify_cert_store(context, store->get()) != 1)
      return failure("certificate authority {}: cannot be used", config_.ca.file);
    // Else httplib still reads the system's authorities, hundreds of milliseconds for each connection.
    client->set_ca_cert_path("", kNoFolder);
  }
  client->enable_server_certificate_verification(!config_.insecure_skip_tls_verify);
  if (!config_.insecure_skip_tls_verify && !tls::expect_host(context, config_.host))
    return failure("TLS cannot be set up for {}", config_.url());
  client_ = std::move(client);
  return {};
}

std::string Connection::describe_failure(int httplib_error) const {
  const auto error = static_cast<httplib::Error>(httplib_error);
  switch (error) {
    case httplib::Error::Connection:
    case httplib::Error::ConnectionTimeout:
      return "cannot connect (is the address right, does the API server run, does a firewall stand between?)";
    case httplib::Error::SSLServerVerification: {
      const auto* client = dynamic_cast<const httplib::SSLClient*>(client_.get());
      const long result = client == nullptr ? X509_V_OK : client->get_openssl_verify_result();
      if (result == X509_V_OK || result == X509_V_ERR_HOSTNAME_MISMATCH ||
          result == X509_V_ERR_IP_ADDRESS_MISMATCH)
        return fmt::format("its certificate does not name {} among its alternative names", config_.host);
      return fmt::format("its certificate is not accepted: {} (is the certificate authority the cluster's?)",
                         X509_verify_cert_error_string(result));
    }
    case httplib::Error::SSLConnection:
      return "the TLS handshake failed or took too long (does it speak TLS, does it accept our certificate?)";
    case httplib::Error::SSLLoadingCerts:
      return "the system's certificate authorities cannot be loaded";
    case httplib::Error::Read:
      return "the connection broke, or nothing came in time";
    case httplib::Error::Write:
      return "the request could not be sent";
    case httplib::Error::Canceled:
      return "the answer was abandoned";
    default:
      return httplib::to_string(error);
  }
}

Result<Connection::Response> Connection::call(const char* method, const std::string& path,
                                              const Handlers& handlers) {
  Response response;
  std::string error_body;
  httplib::Request request;
  request.method = method;
  request.path = config_.base_path + path;
  request.response_handler = [&](const httplib::Response& head) {
    response.status = head.status;
    response.retry_after = retry_after(head);
    if (head.status == 200 && handlers.opened) handlers.opened();
    return true;
  };
  request.content_receiver = [&](const char* data, std::size_t size, std::uint64_t, std::uint64_t) {
    if (response.status == 200) return handlers.data(std::string_view(data, size));
    error_body.append(data, std::min(size, kErrorBodyMost - error_body.size()));
    return error_body.size() < kErrorBodyMost;
  };
  const auto result = client_->send(request);
  // An error's body that was cut off does not change what it is.
  if (!result && (response.status == 0 || response.status == 200))
    return failure("{}: {}", config_.url(), describe_failure(static_cast<int>(result.error())));
  if (response.status != 200) {
    const auto status = decode_object(error_body);
    response.error =
        fmt::format("{}: HTTP {}{}{}", config_.url(), response.status,
                    status ? status_message(status->root()) : std::string(), advice(response.status));
  }
  return response;
}

}  // namespace sluice::source
