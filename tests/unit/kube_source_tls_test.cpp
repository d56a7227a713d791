// SPDX-License-Identifier: Apache-2.0
// Whom the Kubernetes source trusts and who it says it is: kubeconfig, service account, TLS.
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>

#include "daemon/source/kube/kube_source.h"
#include "daemon/source/kube/tls.h"
#include "tests/unit/fake_api_server.h"
#include "tests/unit/recording_sink.h"

namespace sluice::source {
namespace {

namespace fs = std::filesystem;

struct Identity {
  tls::Certificate certificate;
  tls::Key key;

  [[nodiscard]] std::string certificate_pem() const {
    return pem([this](BIO* out) { return PEM_write_bio_X509(out, certificate.get()); });
  }
  [[nodiscard]] std::string key_pem() const {
    return pem([this](BIO* out) {
      return PEM_write_bio_PrivateKey(out, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    });
  }

 private:
  template <typename Write>
  static std::string pem(Write write) {
    const std::unique_ptr<BIO, tls::Freer<BIO_free>> out(BIO_new(BIO_s_mem()));
    EXPECT_EQ(write(out.get()), 1);
    char* data = nullptr;
    const auto size = BIO_get_mem_data(out.get(), &data);
    return {data, static_cast<std::size_t>(size)};
  }
};

// Signed by `issuer`, or an authority of its own if that is null.
Identity make_identity(const char* name, const Identity* issuer, const char* alternative_name) {
  Identity identity{tls::Certificate(X509_new()), tls::Key(EVP_EC_gen("P-256"))};
  X509* certificate = identity.certificate.get();
  static long serial = 0;
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_set_pubkey(certificate, identity.key.get());
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
  const Identity& signer = issuer == nullptr ? identity : *issuer;
  X509_set_issuer_name(certificate, X509_get_subject_name(signer.certificate.get()));
  const auto extend = [certificate](int nid, const char* value) {
    auto* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  };
  extend(NID_basic_constraints, issuer == nullptr ? "critical,CA:TRUE" : "CA:FALSE");
  if (alternative_name != nullptr) extend(NID_subject_alt_name, alternative_name);
  EXPECT_GT(X509_sign(certificate, signer.key.get(), EVP_sha256()), 0);
  return identity;
}

std::string base64(const std::string& text) {
  std::string out(4 * ((text.size() + 2) / 3) + 1, '\0');
  out.resize(static_cast<std::size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                                      reinterpret_cast<const unsigned char*>(text.data()),
                                                      static_cast<int>(text.size()))));
  return out;
}

class KubeConfigTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "sluice-kube-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name) << content;
    return (folder_ / name).string();
  }
  Result<KubeConfig> read(const std::string& cluster, const std::string& user) const {
    return KubeConfig::from_file(write("config",
                                       "apiVersion: v1\nkind: Config\ncurrent-context: here\n"
                                       "contexts:\n- name: other\n  context: {cluster: x, user: y}\n"
                                       "- name: here\n  context: {cluster: c, user: u}\n"
                                       "clusters:\n- name: c\n  cluster: {" +
                                           cluster +
                                           "}\n"
                                           "users:\n- name: u\n  user: {" +
                                           user + "}\n"));
  }
  fs::path folder_;
};

class KubeTlsTest : public KubeConfigTest {
 protected:
  // Serves as 127.0.0.1 and asks clients for a certificate of the same authority.
  void serve(const char* alternative_name = "IP:127.0.0.1", const char* subject = "apiserver") {
    server_ = make_identity(subject, &authority_, alternative_name);
    tls::Store clients(X509_STORE_new());
    X509_STORE_add_cert(clients.get(), authority_.certificate.get());
    api_ = std::make_unique<FakeApiServer>(std::make_unique<httplib::SSLServer>(
        server_.certificate.get(), server_.key.get(), clients.release()));
  }
  [[nodiscard]] std::string address() const { return "https://127.0.0.1:" + std::to_string(api_->port()); }
  // Errors on the way, as a busy machine makes them, do not count: only what it comes to.
  static bool connects(const KubeConfig& config) {
    return comes_to(config, [](const Status& status) { return status.connected; });
  }
  static bool fails(const KubeConfig& config, const std::string& error) {
    return comes_to(config,
                    [&](const Status& status) { return status.last_error.find(error) != std::string::npos; });
  }
  static bool comes_to(const KubeConfig& config, const std::function<bool(const Status&)>& condition) {
    auto source = KubeSource::make(config);
    EXPECT_TRUE(source) << source.error().message;
    RecordingSink sink;
    return source && (*source)->start(sink) && eventually([&] { return condition((*source)->status()); });
  }
  KubeConfig config() const {
    KubeConfig config;
    EXPECT_TRUE(config.set_server(address()));
    config.ca.data = authority_.certificate_pem();
    config.certificate.data = client_.certificate_pem();
    config.key.data = client_.key_pem();
    return config;
  }

  Identity authority_ = make_identity("authority", nullptr, nullptr);
  Identity stranger_ = make_identity("stranger", nullptr, nullptr);
  Identity client_ = make_identity("sluice", &authority_, nullptr);
  Identity server_;
  std::unique_ptr<FakeApiServer> api_;
};

TEST_F(KubeTlsTest, AKubeconfigWithEverythingInItConnects) {
  serve();
  const auto config =
      read("server: '" + address() + "', certificate-authority-data: " + base64(authority_.certificate_pem()),
           "client-certificate-data: " + base64(client_.certificate_pem()) +
               ", client-key-data: " + base64(client_.key_pem()));
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_TRUE(connects(*config));
}

TEST_F(KubeTlsTest, AKubeconfigWithFilesBesideItConnects) {
  serve();
  write("ca.pem", authority_.certificate_pem());
  write("client.pem", client_.certificate_pem());
  write("client.key", client_.key_pem());
  write("token", "secret\n");
  const auto config = read("server: '" + address() + "', certificate-authority: ca.pem",
                           "client-certificate: client.pem, client-key: client.key, tokenFile: token");
  ASSERT_TRUE(config) << config.error().message;
  api_->require_token("secret");
  EXPECT_TRUE(connects(*config));
}

TEST_F(KubeTlsTest, EventsComeThroughTls) {
  serve();
  const auto stream = api_->stream_on_watch("/api/v1/nodes");
  auto source = KubeSource::make(config());
  ASSERT_TRUE(source) << source.error().message;
  RecordingSink sink;
  ASSERT_TRUE((*source)->start(sink));
  ASSERT_TRUE(sink.wait([](const auto& state) { return state.synced(); }));
  for (const std::string name : {"n1", "n2", "n3"}) {
    stream->line(R"({"type":"ADDED","object":{"metadata":{"resourceVersion":"2","name":")" + name +
                 R"("}}})");
    EXPECT_TRUE(sink.wait([&](const auto& state) { return state.has(model::Kind::kNode, name); })) << name;
  }
}

TEST_F(KubeTlsTest, RefusesAServerOfAnotherAuthority) {
  serve();
  auto trusts_another = config();
  trusts_another.ca.data = stranger_.certificate_pem();
  EXPECT_TRUE(
      fails(trusts_another, "its certificate is not accepted: self-signed certificate in certificate chain"));
  EXPECT_TRUE(api_->requests("/api/v1/pods", false).empty());
  trusts_another.insecure_skip_tls_verify = true;
  EXPECT_TRUE(connects(trusts_another));
}

TEST_F(KubeTlsTest, RefusesAServerOfAnotherName) {
  serve("IP:127.0.0.2,DNS:kubernetes");
  EXPECT_TRUE(fails(config(), "its certificate does not name 127.0.0.1"));
  EXPECT_TRUE(api_->requests("/api/v1/pods", false).empty());
}

// An authority vouches for the alternative names; the subject is free text.
TEST_F(KubeTlsTest, RefusesAServerThatIsNamedByItsSubjectAlone) {
  serve(nullptr, "localhost");
  auto by_name = config();
  ASSERT_TRUE(by_name.set_server("https://localhost:" + std::to_string(api_->port())));
  EXPECT_TRUE(fails(by_name, "its certificate does not name localhost among its alternative names"));
  EXPECT_TRUE(api_->requests("/api/v1/pods", false).empty());
  serve("DNS:localhost", "localhost");
  ASSERT_TRUE(by_name.set_server("https://localhost:" + std::to_string(api_->port())));
  EXPECT_TRUE(connects(by_name));
}

TEST_F(KubeTlsTest, TakesACertificateThatWasReplaced) {
  serve();
  auto with_file = config();
  with_file.ca = {.data = "", .file = write("ca.pem", stranger_.certificate_pem())};
  auto source = KubeSource::make(with_file);
  ASSERT_TRUE(source);
  RecordingSink sink;
  ASSERT_TRUE((*source)->start(sink));
  ASSERT_TRUE(eventually([&] { return !(*source)->status().last_error.empty(); }));
  write("ca.pem", stranger_.certificate_pem() + authority_.certificate_pem());
  EXPECT_TRUE(sink.wait([](const auto& state) { return state.synced(); }));
  EXPECT_TRUE(eventually([&] { return (*source)->status().connected; }));
}

TEST_F(KubeTlsTest, NamesCredentialsThatCannotBeUsed) {
  serve();
  const auto error = [&](auto change) {
    auto broken = config();
    change(broken);
    const auto source = KubeSource::make(broken);
    return source ? "accepted" : source.error().message;
  };
  EXPECT_NE(error([](auto& c) { c.ca.data = "x"; }).find("holds no certificate"), std::string::npos);
  EXPECT_NE(error([](auto& c) { c.key.data = "x"; }).find("not an unencrypted private key"),
            std::string::npos);
  EXPECT_NE(error([this](auto& c) { c.key.data = stranger_.key_pem(); }).find("is not its key"),
            std::string::npos);
  EXPECT_NE(error([](auto& c) { c.key = {}; }).find("needs its key"), std::string::npos);
  EXPECT_NE(error([](auto& c) {
              c.ca = {"", "/nonexistent"};
            }).find("/nonexistent: No such file"),
            std::string::npos);
}

TEST_F(KubeConfigTest, RefusesWhatItCannotDo) {
  const auto error = [this](const std::string& cluster, const std::string& user) {
    const auto config = read(cluster, user);
    return config ? "accepted" : config.error().message;
  };
  EXPECT_NE(error("server: 'https://a'", "exec: {command: aws}").find("exec is not supported"),
            std::string::npos);
  EXPECT_NE(error("server: 'https://a'", "username: me").find("username is not supported"),
            std::string::npos);
  EXPECT_NE(error("server: 'https://a', proxy-url: 'http://p'", "")
                .find("proxy-url is not supported; use an address that the node reaches without a proxy"),
            std::string::npos);
  EXPECT_NE(error("server: 'https://a', tls-server-name: 'b'", "")
                .find("tls-server-name is not supported; use as `server` an address that"),
            std::string::npos);
  EXPECT_NE(error("server: 'https://a', certificate-authority-data: '?'", "").find("is not base64"),
            std::string::npos);
  EXPECT_NE(error("server: 'http://192.0.2.1'", "token: x").find("unencrypted"), std::string::npos);
  EXPECT_NE(error("server: ''", "").find("is not an address"), std::string::npos);
  EXPECT_NE(KubeConfig::from_file((folder_ / "none").string()).error().message.find("No such file"),
            std::string::npos);
  const auto broken = [this](const std::string& text) {
    return KubeConfig::from_file(write("broken", text)).error().message;
  };
  EXPECT_NE(broken("a: [").find("kubeconfig"), std::string::npos);
  EXPECT_NE(broken("[]").find("is not a map"), std::string::npos);
  EXPECT_NE(broken("a: 1").find("current-context is not set"), std::string::npos);
  EXPECT_NE(broken("current-context: x").find("there is no context 'x'"), std::string::npos);
  EXPECT_NE(broken("current-context: x\ncontexts: [{name: x}]").find("context 'x' is empty"),
            std::string::npos);
  EXPECT_NE(broken("current-context: x\ncontexts: 5\n").find("there is no context"), std::string::npos);
}

TEST_F(KubeConfigTest, ReadsServers) {
  struct {
    const char* text;
    bool tls;
    const char* host;
    int port;
    const char* authority;
  } const good[] = {{"https://10.0.0.1:6443", true, "10.0.0.1", 6443, "10.0.0.1:6443"},
                    {"10.0.0.1:6443", true, "10.0.0.1", 6443, "10.0.0.1:6443"},
                    {"https://[fd00::1]:6443/", true, "fd00::1", 6443, "[fd00::1]:6443"},
                    {"[fd00::1]", true, "fd00::1", 443, "[fd00::1]:443"},
                    {"http://localhost", false, "localhost", 80, "localhost:80"}};
  for (const auto& c : good) {
    KubeConfig config;
    const auto set = config.set_server(c.text);
    ASSERT_TRUE(set) << set.error().message;
    EXPECT_EQ(config.tls, c.tls) << c.text;
    EXPECT_EQ(config.host, c.host) << c.text;
    EXPECT_EQ(config.port, c.port) << c.text;
    EXPECT_EQ(config.authority(), c.authority);
    EXPECT_EQ(config.base_path, "");
  }
  KubeConfig config;
  ASSERT_TRUE(config.set_server("https://rancher/k8s/clusters/c-1/"));
  EXPECT_EQ(config.base_path, "/k8s/clusters/c-1");
  EXPECT_EQ(config.url(), "https://rancher:443/k8s/clusters/c-1");
  for (const char* bad :
       {"", "https://", "ftp://x", "https://fd00::1:6443", "https://[fd00::1", "https://[10.0.0.1]",
        "https://a:0", "https://a:65536", "https://a:x", "https://a:", "https://user@a", "https://[::1]6443"})
    EXPECT_FALSE(config.set_server(bad)) << bad;
}

TEST_F(KubeConfigTest, FindsTheServiceAccount) {
  write("token", "secret");
  write("ca.crt", "x");
  setenv("KUBERNETES_SERVICE_HOST", "fd00::10", 1);
  setenv("KUBERNETES_SERVICE_PORT", "443", 1);
  const auto from_environment = KubeConfig::in_cluster("", folder_.string());
  const auto overridden = KubeConfig::in_cluster("192.0.2.1:6443", folder_.string());
  unsetenv("KUBERNETES_SERVICE_HOST");
  unsetenv("KUBERNETES_SERVICE_PORT");
  ASSERT_TRUE(from_environment) << from_environment.error().message;
  EXPECT_EQ(from_environment->url(), "https://[fd00::10]:443");
  EXPECT_EQ(from_environment->token.file, (folder_ / "token").string());
  EXPECT_EQ(from_environment->ca.file, (folder_ / "ca.crt").string());
  ASSERT_TRUE(overridden);
  EXPECT_EQ(overridden->url(), "https://192.0.2.1:6443");
  EXPECT_NE(KubeConfig::in_cluster("", folder_.string()).error().message.find("KUBERNETES_SERVICE_HOST"),
            std::string::npos);
  EXPECT_NE(KubeConfig::in_cluster("192.0.2.1", (folder_ / "none").string())
                .error()
                .message.find("no service account"),
            std::string::npos);
}

}  // namespace
}  // namespace sluice::source
