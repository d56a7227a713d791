// SPDX-License-Identifier: Apache-2.0
#include "cli/cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/render.h"
#include "cli/table.h"
#include "common/fd.h"
#include "daemon/server/server.h"

namespace sluice::cli {
namespace {

using nlohmann::json;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const Time kNow = *parse_time("2026-01-31T12:00:00.000Z");

const json kStatus = json::parse(R"({
  "version": "0.1.0", "abi": 1, "node": "worker-1",
  "source": {"description": "Kubernetes API https://10.96.0.1:443", "connected": true, "synced": true, "lastError": "",
             "lists": 5, "watches": 6, "events": 700, "errors": 0},
  "ready": true, "notReadyReason": "", "endpoints": 17,
  "addresses": {"used": 17, "capacity": 253, "cidrs": ["10.244.1.0/24", "10.250.0.0/24"]},
  "firewall": {"generation": 12, "epoch": 3, "swappedAt": "2026-01-31T11:58:30.250Z", "reason": "NetworkPolicy shop/front changed"},
  "services": {"synced": true, "frontends": 12, "applied": true, "cgroup": "/host/cgroup", "noCgroupReason": ""},
  "tunnel": {"direct": true, "notDirectReason": ""},
  "conntrack": {"entries": 1311, "max": 131072},
  "packets": {"in": {"pod": 10, "host": 20, "overlay": 30, "uplink": 40}, "delivered": 50, "toStack": 41, "outTunnel": 1,
              "outUplink": 2, "answered": 3, "drops": {"POLICY_INGRESS": 2, "TTL_EXPIRED": 1}, "unaccounted": -1},
  "audit": [], "startedAt": "2026-01-28T08:00:00.000Z", "attach": "tcx", "rejected": []})");

TEST(CliTable, AlignsByCharactersAndCutsNothing) {
  Table table({"A", "LONGER", "C"});
  table.add({"très-long-name", "x", std::string(100, 'y')});
  table.add({"short", "", "z"});
  EXPECT_EQ(table.text("> "),
            "> A               LONGER  C\n"
            "> très-long-name  x       " +
                std::string(100, 'y') +
                "\n"
                "> short                   z\n");
}

TEST(CliTime, ShowsAges) {
  using std::chrono::seconds;
  EXPECT_EQ(duration_text(seconds(0)), "0s");
  EXPECT_EQ(duration_text(seconds(59)), "59s");
  EXPECT_EQ(duration_text(seconds(60)), "1m");
  EXPECT_EQ(duration_text(seconds(725)), "12m5s");
  EXPECT_EQ(duration_text(seconds(12000)), "3h20m");
  EXPECT_EQ(duration_text(seconds(9 * 86400 + 4 * 3600 + 59)), "9d4h");
  EXPECT_EQ(time_with_age("2026-01-31T11:47:55.999Z", kNow), "2026-01-31T11:47:55.999Z (12m5s ago)");
  EXPECT_EQ(time_with_age("2026-01-31T12:00:09Z", kNow), "2026-01-31T12:00:09Z (0s ago)");
  EXPECT_EQ(time_with_age("", kNow), "never");
  EXPECT_EQ(time_with_age("soon", kNow), "soon");
}

TEST(CliRender, Status) {
  EXPECT_EQ(render_status(kStatus, kNow),
            "Node         worker-1\n"
            "Version      sluiced 0.1.0, datapath ABI 1, hooks by tcx\n"
            "Started      2026-01-28T08:00:00.000Z (3d4h ago)\n"
            "Ready        yes\n"
            "Source       Kubernetes API https://10.96.0.1:443, connected, synced\n"
            "             5 lists, 6 watches, 700 events, 0 errors\n"
            "Endpoints    17\n"
            "Addresses    17 of 253 used in 10.244.1.0/24, 10.250.0.0/24\n"
            "Firewall     generation 12, epoch 3, live since 2026-01-31T11:58:30.250Z (1m30s ago): "
            "NetworkPolicy shop/front changed\n"
            "Services     12 frontends, the node's own processes at the socket (/host/cgroup)\n"
            "Tunnel       by the modules at the uplink\n"
            "Conntrack    1311 of 131072 entries (1.0%)\n"
            "Packets in   10 from pods, 20 from the node, 30 from the overlay, 40 from the uplink\n"
            "Packets out  50 to pods, 41 to the node's stack, 1 to other nodes, 2 to the uplink, 3 ARP "
            "requests answered\n"
            "Dropped      3\n"
            "             POLICY_INGRESS 2\n"
            "             TTL_EXPIRED 1\n"
            "Unaccounted  -1\n"
            "Audit        the kernel's maps are as they should be\n"
            "Rejected     no object\n");
}

TEST(CliRender, StatusOfADaemonInTrouble) {
  auto status = kStatus;
  status["ready"] = false;
  status["notReadyReason"] = "the node has no podCIDR";
  status["source"]["connected"] = false;
  status["source"]["synced"] = false;
  status["source"]["lastError"] = "connection refused";
  status["addresses"]["cidrs"] = json::array();
  status["firewall"] = json::object();
  status["services"]["applied"] = false;
  status["services"]["cgroup"] = "";
  status["services"]["noCgroupReason"] = "no cgroup v2";
  status["tunnel"] = {{"direct", false}, {"notDirectReason", "no uplink"}};
  status["audit"] = {"peers: 10.1.0.2 is missing", "routes: 10.2.0.0/24 differs"};
  status["rejected"] = {"NetworkPolicy shop/bad: port 70000"};
  const auto text = render_status(status, kNow);
  EXPECT_THAT(text, HasSubstr("Ready        NO: the node has no podCIDR\n"));
  EXPECT_THAT(text, HasSubstr(", NOT connected, NOT synced\n"));
  EXPECT_THAT(text, HasSubstr("             last error: connection refused\n"));
  EXPECT_THAT(text, HasSubstr("used in no podCIDR\n"));
  EXPECT_THAT(text, HasSubstr("Firewall     no generation yet: packets of pods are dropped\n"));
  EXPECT_THAT(
      text, HasSubstr("Audit        peers: 10.1.0.2 is missing\n             routes: 10.2.0.0/24 differs\n"));
  EXPECT_THAT(text, HasSubstr("Rejected     NetworkPolicy shop/bad: port 70000\n"));
  EXPECT_THAT(
      text,
      HasSubstr("Services     12 frontends (NOT all applied), the node's own processes packet by packet: "
                "no cgroup v2\n"));
  EXPECT_THAT(text, HasSubstr("Tunnel       by the VXLAN device: no uplink\n"));
}

TEST(CliRender, NothingThatIsMissingFails) {
  EXPECT_THAT(render_status(json::object(), kNow), HasSubstr("Started      never\n"));
  EXPECT_EQ(render_endpoints(json::object()), "No endpoints on this node.\n");
  EXPECT_THAT(render_policy(json::object()), HasSubstr("Endpoint 0"));
  EXPECT_THAT(render_firewall({{"live", nullptr}, {"generations", json::array()}}, kNow),
              HasSubstr("No firewall generation"));
  EXPECT_THAT(render_modules(json::object()), HasSubstr("MODULE"));
  EXPECT_FALSE(render_event(json::object()).empty());
}

TEST(CliRender, Endpoints) {
  const auto answer = json::parse(R"({"endpoints": [
    {"id": 1, "namespace": "shop", "pod": "front-7d9c", "containerID": "0123456789abcdef0123456789abcdef", "ifname": "eth0",
     "address": "10.244.1.2", "mac": "02:53:0a:f4:01:02", "hostIfname": "slc1", "hostIfindex": 42,
     "isolatedIngress": true, "isolatedEgress": true, "state": "ready"},
    {"id": 4095, "namespace": "", "pod": "", "address": "10.244.1.3", "isolatedIngress": false, "isolatedEgress": true,
     "state": "record damaged"}]})");
  EXPECT_EQ(render_endpoints(answer),
            "ID    POD              ADDRESS     MAC                INTERFACE  IFINDEX  ISOLATED        STATE "
            "          CONTAINER                         CONTAINER IF\n"
            "1     shop/front-7d9c  10.244.1.2  02:53:0a:f4:01:02  slc1       42       ingress,egress  ready "
            "          0123456789abcdef0123456789abcdef  eth0\n"
            "4095  -                10.244.1.3  -                  -          0        egress          "
            "record damaged  -                                 -\n");
}

TEST(CliRender, Policy) {
  const auto answer = json::parse(R"({
    "endpoint": {"id": 7, "namespace": "shop", "pod": "db-0", "address": "10.244.1.9"},
    "isolatedIngress": true, "isolatedEgress": false,
    "rules": [{"direction": "ingress", "policy": "shop/allow-front", "text": "TCP 5432 from pods app=front in this namespace"},
              {"direction": "ingress", "policy": "shop/ops", "text": "all from 10.0.0.0/8 except 10.1.0.0/16"}]})");
  EXPECT_EQ(render_policy(answer),
            "Endpoint 7, pod shop/db-0, 10.244.1.9\n"
            "\n"
            "Ingress: isolated, allowed is only\n"
            "  POLICY            ALLOWS\n"
            "  shop/allow-front  TCP 5432 from pods app=front in this namespace\n"
            "  shop/ops          all from 10.0.0.0/8 except 10.1.0.0/16\n"
            "\n"
            "Egress: not isolated, everything is allowed\n");
  EXPECT_THAT(render_policy({{"isolatedEgress", true}}), EndsWith("Egress: isolated, nothing is allowed\n"));
}

TEST(CliRender, Firewall) {
  const auto answer = json::parse(R"({"live": {"number": 12}, "generations": [
    {"number": 12, "slot": 1, "programID": 345, "epoch": 2, "live": true, "reason": "NetworkPolicy shop/a added",
     "swappedAt": "2026-01-31T11:59:00.000Z",
     "durationsMs": {"build": 0.1234, "fill": 1.5, "load": 3.0, "check": 0.75, "swap": 0.0126}, "checkPackets": 96,
     "counters": {"judged": 1000, "allowed": 900, "deniedIngress": 60, "deniedEgress": 40, "rejudged": 12}},
    {"number": 11, "slot": 0, "live": false, "reason": "start"}]})");
  const auto text = render_firewall(answer, kNow);
  std::istringstream lines(text);
  std::string head, live, previous;
  std::getline(lines, head);
  std::getline(lines, live);
  std::getline(lines, previous);
  for (const auto* cell : {"12", "345", "1000", "900", "60", "40", "96", "0.123", "1.500", "3.000", "0.750",
                           "0.013", "2026-01-31T11:59:00.000Z (1m ago)  NetworkPolicy shop/a added"})
    EXPECT_THAT(live, HasSubstr(cell));
  EXPECT_THAT(live, StartsWith("live  12 "));
  EXPECT_THAT(previous, StartsWith("      11 "));
  EXPECT_EQ(head.find("REASON"), live.find("NetworkPolicy"));
  EXPECT_EQ(head.find("DENIED OUT"), live.find("40 "));
}

TEST(CliRender, Modules) {
  const auto answer = json::parse(R"({
    "modules": [{"name": "entry", "slot": 0, "programID": 10, "tag": "0a1b2c3d4e5f6071", "instructions": 812, "mapIDs": [3, 4, 17]}],
    "links": [{"interface": "slc1", "ifindex": 42, "linkID": 9, "programID": 10}, {"interface": "", "ifindex": 43, "linkID": 0, "programID": 10}],
    "maps": [{"name": "peers", "id": 3, "maxEntries": 131072}]})");
  EXPECT_EQ(render_modules(answer),
            "MODULE  SLOT  PROGRAM  TAG               INSTRUCTIONS  MAPS\n"
            "entry   0     10       0a1b2c3d4e5f6071  812           3,4,17\n"
            "\n"
            "INTERFACE  IFINDEX  LINK    PROGRAM\n"
            "slc1       42       9       10\n"
            "-          43       clsact  10\n"
            "\n"
            "MAP    ID  MAX ENTRIES\n"
            "peers  3   131072\n");
}

TEST(CliRender, Services) {
  const auto answer = json::parse(R"({"synced": true, "applied": true, "services": [
    {"service": "shop/web:http", "address": "10.96.0.1", "port": 80, "protocol": "TCP", "fromOutside": false, "masquerade": false,
     "backends": [{"address": "10.244.1.2", "port": 8080}, {"address": "10.244.2.3", "port": 8080}], "backendsFromOutside": []},
    {"service": "shop/web:http", "address": "192.0.2.1", "port": 30080, "protocol": "TCP", "fromOutside": true, "masquerade": true,
     "backends": [], "backendsFromOutside": []}]})");
  EXPECT_EQ(
      render_services(answer),
      "SERVICE        ADDRESS    PORT   PROTOCOL  BACKENDS                          FROM OUTSIDE\n"
      "shop/web:http  10.96.0.1  80     TCP       10.244.1.2:8080, 10.244.2.3:8080  -\n"
      "shop/web:http  192.0.2.1  30080  TCP       none                              none (masqueraded)\n");
  EXPECT_THAT(render_services(json::parse(R"({"synced": true, "applied": false})")),
              HasSubstr("log of sluiced"));
  EXPECT_THAT(render_services(json::object()), HasSubstr("not known yet"));
}

TEST(CliRender, OneService) {
  const auto answer = json::parse(R"({"synced": true, "applied": true, "services": [
    {"service": "shop/web:http", "address": "192.0.2.1", "port": 30080, "protocol": "TCP", "fromOutside": true,
     "masquerade": false, "affinitySeconds": 10800, "sourceRanges": ["203.0.113.0/24"],
     "backends": [{"address": "10.244.1.2", "port": 8080}, {"address": "10.244.2.3", "port": 8080, "connections": 7}],
     "backendsFromOutside": []},
    {"service": "shop/web:http", "address": "10.96.0.1", "port": 80, "protocol": "TCP", "fromOutside": false,
     "affinitySeconds": null, "backends": []}]})");
  EXPECT_EQ(render_service(answer),
            "Service       shop/web:http\n"
            "Address       TCP 192.0.2.1:30080\n"
            "Backends      10.244.1.2:8080\n"
            "              10.244.2.3:8080 (7 connections)\n"
            "From outside  none\n"
            "              the client's address is kept\n"
            "Only from     203.0.113.0/24\n"
            "Affinity      by client address, 10800 s\n"
            "\n"
            "Service       shop/web:http\n"
            "Address       TCP 10.96.0.1:80\n"
            "Backends      none\n"
            "From outside  not served\n"
            "Affinity      none\n");
}

const auto kConnections = json::parse(R"({"total": 2, "connections": [
    {"protocol": "TCP", "state": "established", "source": {"address": "10.244.1.2", "port": 4000, "pod": "shop/front"},
     "destination": {"address": "10.244.2.3", "port": 8080, "pod": ""}, "service": {"address": "10.96.0.1", "port": 80},
     "owner": {"endpoint": 3, "pod": "shop/front", "direction": "from"}, "idleSeconds": 2, "expiresInSeconds": 86398},
    {"protocol": "ICMP", "state": "new", "source": {"address": "10.244.1.9", "port": 7, "pod": ""},
     "destination": {"address": "192.0.2.9", "port": 7, "pod": ""}, "masqueradePort": 61001,
     "owner": {"endpoint": 9, "pod": "", "direction": "from"}, "idleSeconds": 0, "expiresInSeconds": 30}]})");

TEST(CliRender, Connections) {
  EXPECT_EQ(
      render_connections(kConnections),
      "PROTOCOL  STATE        FROM                          TO               SERVICE       MASQUERADED BY  "
      "COUNTS FOR       IDLE s  EXPIRES IN s\n"
      "TCP       established  10.244.1.2:4000 (shop/front)  10.244.2.3:8080  10.96.0.1:80  -               "
      "from shop/front  2       86398\n"
      "ICMP      new          10.244.1.9                    192.0.2.9        -             port 61001      "
      "from endpoint 9  0       30\n");
  auto more = kConnections;
  more["total"] = 7000;
  EXPECT_THAT(render_connections(more), HasSubstr("2 of 7000 connections; --limit shows more."));
  EXPECT_EQ(render_connections(json::object()), "No such connections.\n");
  EXPECT_EQ(render_flushed({{"flushed", 12}}), "12 connections forgotten.\n");
}

TEST(CliRender, WhoHasMostOfConntrack) {
  const auto status = json::parse(R"({"conntrack": {"entries": 70, "max": 100, "heaviest": [
    {"endpoint": 3, "pod": "shop/front", "direction": "from", "entries": 40},
    {"endpoint": 4, "pod": "", "direction": "to", "entries": 20},
    {"endpoint": 0, "pod": "", "direction": "node", "entries": 10}]}})");
  const auto shown = render_status(status, {});
  EXPECT_THAT(shown, HasSubstr("70 of 100 entries (70.0%)"));
  EXPECT_THAT(shown, HasSubstr(" 40 from shop/front\n"));
  EXPECT_THAT(shown, HasSubstr(" 20 to endpoint 4\n"));
  EXPECT_THAT(shown, HasSubstr(" 10 the node\n"));
}

TEST(CliRender, Events) {
  auto event = json::parse(R"({"time": "2026-01-31T12:00:00.123Z", "kind": "drop", "reason": "POLICY_INGRESS",
    "reasonText": "NetworkPolicy of the destination endpoint", "hook": "pod", "module": "firewall",
    "source": "10.244.1.2", "sourcePort": 34567, "destination": "10.244.1.3", "destinationPort": 80, "protocol": "TCP",
    "sourceEndpoint": 1, "destinationEndpoint": 2, "sourcePod": "shop/front", "destinationPod": "", "generation": 12, "length": 74})");
  EXPECT_EQ(render_event(event),
            "2026-01-31T12:00:00.123Z  drop     POLICY_INGRESS         TCP 10.244.1.2:34567 (shop/front) -> "
            "10.244.1.3:80 (endpoint 2)  74 bytes, from pod, by firewall, generation 12: NetworkPolicy of "
            "the destination endpoint");
  event.update({{"kind", "verdict"},
                {"reason", "ALLOWED"},
                {"protocol", "ICMP"},
                {"destinationEndpoint", 0},
                {"generation", 0}});
  EXPECT_EQ(
      render_event(event),
      "2026-01-31T12:00:00.123Z  verdict  ALLOWED                ICMP 10.244.1.2 (shop/front) -> 10.244.1.3  "
      "74 bytes, from pod, by firewall");
  event.update({{"protocol", "UDP"}, {"destination", "fd00::1"}});
  EXPECT_THAT(render_event(event), HasSubstr("[fd00::1]:80"));
  EXPECT_THAT(render_event({{"kind", "lost"}, {"events", 5}}), HasSubstr("5 events were lost"));
  EXPECT_EQ(render_event({{"error", "no such map"}}), "sluiced: no such map");
}

class CannedApi : public server::Api {
 public:
  server::Answer cni_add(const json&) override { return {}; }
  server::Answer cni_del(const json&) override { return {}; }
  server::Answer cni_check(const json&) override { return {}; }
  server::Answer cni_gc(const json&) override { return {}; }
  server::Answer cni_status() override { return {}; }
  server::Answer status() override { return {200, kStatus}; }
  server::Answer endpoints() override { return {200, {{"endpoints", 7}}}; }  // not as documented
  server::Answer endpoint_policy(const std::string& which) override {
    asked = which;
    return server::cni_error(server::kCniUnknownContainer, "no endpoint of this node is '" + which + "'",
                             "details");
  }
  server::Answer firewall() override { return {200, {{"generations", json::array()}}}; }
  server::Answer services() override {
    return {200, json::parse(R"({"synced": true, "applied": true, "services": [
      {"service": "shop/web:http", "address": "10.96.0.1", "port": 80, "protocol": "TCP", "backends": []},
      {"service": "shop/web-2", "address": "10.96.0.2", "port": 80, "protocol": "TCP", "backends": []}]})")};
  }
  server::Answer modules() override { throw std::runtime_error("broken"); }
  server::Answer conntrack_list(const server::ConnectionQuery& query) override {
    queried = query;
    return {200, kConnections};
  }
  server::Answer conntrack_flush(const server::ConnectionQuery& query) override {
    queried = query;
    return {200, {{"flushed", 3}}};
  }
  std::optional<server::ConnectionQuery> queried;
  bool alive() override { return true; }
  bool ready(std::string&) override { return true; }
  std::string metrics() override { return ""; }
  void monitor(bool drops, bool verdicts, const std::function<bool(const std::string&)>& line) override {
    line(json{{"kind", "drop"}, {"reason", std::string(drops ? "D" : "") + (verdicts ? "V" : "")}}.dump());
  }
  std::string asked;
};

class CliRun : public testing::Test {
 protected:
  CliRun() {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-cli-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    socket_ = folder_ + "/sluice.sock";
    auto server = server::Server::start({socket_, "", ""}, api_);
    if (!server) throw std::runtime_error(server.error().message);
    server_ = std::move(*server);
  }
  ~CliRun() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }
  int run(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "sluicectl");
    arguments.insert(arguments.end(), {"--socket", socket_.c_str()});
    out_.str("");
    err_.str("");
    return cli::run(static_cast<int>(arguments.size()), arguments.data(), out_, err_);
  }
  CannedApi api_;
  std::string folder_, socket_;
  std::unique_ptr<server::Server> server_;
  std::ostringstream out_, err_;
};

TEST_F(CliRun, PrintsTablesAndJson) {
  EXPECT_EQ(run({"status"}), kDone);
  EXPECT_THAT(out_.str(), StartsWith("Node         worker-1\n"));
  EXPECT_EQ(run({"status", "-o", "json"}), kDone);
  EXPECT_EQ(json::parse(out_.str()), kStatus);
  EXPECT_EQ(run({"-o", "json", "firewall"}), kDone);
  EXPECT_EQ(run({"firewall"}), kDone);
  EXPECT_EQ(err_.str(), "");
}

TEST_F(CliRun, PrintsWhatTheDaemonRefuses) {
  EXPECT_EQ(run({"policy", "shop/front-1"}), kFailed);
  EXPECT_EQ(api_.asked, "shop/front-1");
  EXPECT_EQ(err_.str(), "sluicectl: sluiced: no endpoint of this node is 'shop/front-1' (details)\n");
  EXPECT_EQ(run({"modules"}), kFailed);
  EXPECT_THAT(err_.str(), HasSubstr("broken"));
  EXPECT_EQ(run({"endpoints"}), kFailed);
  EXPECT_THAT(err_.str(), HasSubstr("does not understand"));
  EXPECT_EQ(run({"endpoints", "-o", "json"}), kDone);
}

TEST_F(CliRun, AServiceIsFoundByItsName) {
  EXPECT_EQ(run({"service", "get", "shop/web"}), kDone);
  EXPECT_THAT(out_.str(), HasSubstr("10.96.0.1:80"));
  EXPECT_THAT(out_.str(), Not(HasSubstr("10.96.0.2")));
  EXPECT_EQ(run({"service", "get", "shop/web:http", "-o", "json"}), kDone);
  EXPECT_EQ(json::parse(out_.str()).at("services").size(), 1U);
  EXPECT_EQ(run({"service", "get", "shop/we"}), kFailed);
  EXPECT_THAT(err_.str(), HasSubstr("serves no 'shop/we'"));
  EXPECT_EQ(run({"service", "get", "web"}), kFailed);
  EXPECT_EQ(run({"service", "list"}), kDone);
  EXPECT_THAT(out_.str(), HasSubstr("10.96.0.2"));
  EXPECT_EQ(run({"service"}), kFailed);
}

TEST_F(CliRun, ConnectionsAreAskedForByFilter) {
  EXPECT_EQ(run({"conntrack", "list"}), kDone);
  EXPECT_EQ(api_.queried->of + api_.queried->protocol, "");
  EXPECT_EQ(api_.queried->most, 1000U);
  EXPECT_EQ(run({"conntrack", "list", "shop/front", "--protocol", "tcp", "--limit", "5"}), kDone);
  EXPECT_EQ(api_.queried->of, "shop/front");
  EXPECT_EQ(api_.queried->protocol, "tcp");
  EXPECT_EQ(api_.queried->most, 5U);
  EXPECT_FALSE(api_.queried->all);
  EXPECT_EQ(run({"conntrack", "list", "--limit", "0"}), kFailed);
  EXPECT_EQ(run({"conntrack", "list", "a&all=1"}), kFailed);
}

TEST_F(CliRun, EverythingIsFlushedOnlyIfSaidSo) {
  EXPECT_EQ(run({"conntrack", "flush"}), kFailed);
  EXPECT_FALSE(api_.queried) << "the daemon was not asked";
  EXPECT_THAT(err_.str(), HasSubstr("--all"));
  EXPECT_EQ(run({"conntrack", "flush", "10.244.1.2"}), kDone);
  EXPECT_EQ(api_.queried->of, "10.244.1.2");
  EXPECT_FALSE(api_.queried->all);
  EXPECT_EQ(out_.str(), "3 connections forgotten.\n");
  EXPECT_EQ(run({"conntrack", "flush", "--all"}), kDone);
  EXPECT_TRUE(api_.queried->all);
}

TEST_F(CliRun, MonitorAsksForWhatIsNamed) {
  for (const auto& [flag, expected] : std::vector<std::pair<const char*, std::string>>{
           {nullptr, "DV"}, {"--drops", "D"}, {"--verdicts", "V"}}) {
    std::vector<const char*> arguments{"monitor", "-o", "json"};
    if (flag != nullptr) arguments.push_back(flag);
    EXPECT_EQ(run(arguments), kFailed);  // this daemon ends the stream, which a monitor reports
    EXPECT_THAT(err_.str(), HasSubstr("ended the monitor"));
    EXPECT_EQ(json::parse(out_.str()).at("reason"), expected);
  }
  EXPECT_EQ(run({"monitor", "--drops", "--verdicts"}), kFailed);
  EXPECT_THAT(out_.str(), HasSubstr("DV"));
}

TEST_F(CliRun, UsageErrors) {
  for (const auto& arguments : std::vector<std::vector<const char*>>{{},
                                                                     {"frobnicate"},
                                                                     {"policy"},
                                                                     {"policy", "../../etc"},
                                                                     {"policy", "a b"},
                                                                     {"status", "-o", "xml"}}) {
    const int code = run(arguments);
    // "../../etc" is made of letters that names have; the daemon says that there is none.
    EXPECT_EQ(code, kFailed);
    EXPECT_NE(err_.str(), "");
  }
  EXPECT_EQ(run({"--version"}), kDone);
  EXPECT_EQ(out_.str(), std::string("sluicectl ") + SLUICE_VERSION + "\n");
  EXPECT_EQ(run({"--help"}), kDone);
  EXPECT_THAT(out_.str(), HasSubstr("monitor"));
}

TEST_F(CliRun, SaysWhyTheDaemonCannotBeReached) {
  server_.reset();
  EXPECT_EQ(run({"status"}), kNoDaemon);
  EXPECT_THAT(err_.str(), HasSubstr("there is no socket " + socket_));
  EXPECT_THAT(err_.str(), HasSubstr("Check that sluiced"));
  EXPECT_EQ(run({"monitor"}), kNoDaemon);
  {
    const Fd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket_.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  EXPECT_EQ(run({"endpoints"}), kNoDaemon);
  EXPECT_THAT(err_.str(), HasSubstr("nobody listens"));
}

}  // namespace
}  // namespace sluice::cli
