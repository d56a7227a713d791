// SPDX-License-Identifier: Apache-2.0
// Opens connections at a steady rate until standard input ends; then tells of each what became of it: a line
// of JSON with totals, then "begin sent arrived answered port retransmissions" a line, in nanoseconds of
// CLOCK_MONOTONIC.
#include "tests/tools/attempts.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <exception>
#include <functional>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/tools/sockets.h"

namespace sluice::tools {

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr int kTurnMs = 20;

// A namespace's thread: made, it tells so; then it turns until it is ended.
template <typename Part>
class Runner {
 public:
  Runner(const std::string& netns, const std::function<std::unique_ptr<Part>()>& make,
         const std::function<void(Part&, const std::atomic<bool>&)>& turn) {
    std::promise<void> ready;
    auto is_ready = ready.get_future();
    thread_ = std::jthread([this, netns, make, turn, ready = std::move(ready)]() mutable {
      try {
        join_netns(netns);
        part_ = make();
      } catch (...) {
        ready.set_exception(std::current_exception());
        return;
      }
      ready.set_value();
      turn(*part_, ended_);
    });
    is_ready.get();
  }
  ~Runner() { ended_ = true; }
  Part& end() {
    ended_ = true;
    thread_.join();
    return *part_;
  }

 private:
  std::unique_ptr<Part> part_;
  std::atomic<bool> ended_ = false;
  std::jthread thread_;
};

void attempt_at_rate(Client& client, double rate, const std::atomic<bool>& ended) {
  const auto interval = static_cast<std::int64_t>(static_cast<double>(kSecond) / rate);
  auto next = now_ns();
  while (!ended) {
    const auto now = now_ns();
    // A machine that was busy elsewhere does not make up for it: a burst would use up the ports.
    if (now - next > kSecond / 10) next = now;
    if (now >= next) {
      client.start();
      next += interval;
    }
    client.wait(std::max<std::int64_t>(0, next - now_ns()));
  }
  for (const auto end = now_ns() + kSecond / 2; now_ns() < end;)
    client.wait(kSecond / 50);  // for the last answers
}

void report(const std::vector<Attempt>& attempts, const nlohmann::json& totals) {
  std::printf("%s\n", totals.dump().c_str());
  for (const auto& a : attempts)
    std::printf("%lld %lld %lld %lld %u %u\n", static_cast<long long>(a.begin_ns),
                static_cast<long long>(a.sent_ns), static_cast<long long>(a.arrived_ns),
                static_cast<long long>(a.answered_ns), unsigned{a.port}, unsigned{a.retransmissions});
}

void run(const Plan& plan, double rate) {
  const bool tcp = plan.protocol == "tcp";
  Runner<Server> server(
      plan.server, [&] { return tcp ? make_tcp_server(plan) : make_datagram_server(plan); },
      [](Server& each, const std::atomic<bool>& ended) {
        while (!ended) each.serve(kTurnMs);
        each.serve(0);
      });
  Runner<Client> client(
      plan.client, [&] { return tcp ? make_tcp_client(plan) : make_datagram_client(plan); },
      [rate](Client& each, const std::atomic<bool>& ended) { attempt_at_rate(each, rate, ended); });
  std::printf("ready\n");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  auto& made = client.end();
  auto& served = server.end();
  served.enter_arrivals(made.attempts());
  report(made.attempts(), {{"without_port", made.without_port()}, {"socket_drops", served.drops()}});
}

}  // namespace

}  // namespace sluice::tools

int main(int argc, char** argv) try {
  sluice::tools::Plan plan;
  double rate = 500;
  int patience_ms = 250;
  CLI::App app{"sluice-attempts: connections at a steady rate, from source ports that recur"};
  app.add_option("--protocol", plan.protocol)->required()->check(CLI::IsMember({"tcp", "udp", "sctp"}));
  app.add_option("--client", plan.client, "path of the client's network namespace")->required();
  app.add_option("--server", plan.server, "path of the server's network namespace")->required();
  app.add_option("--address", plan.address, "of the server")->required();
  app.add_option("--port", plan.port)->required();
  app.add_option("--rate", rate, "attempts a second")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--first-port", plan.first_port, "lowest source port");
  app.add_option("--ports", plan.ports, "how many source ports; 0 (TCP only): the system chooses");
  app.add_option("--patience-ms", patience_ms, "after which a connection is given up")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (plan.protocol != "tcp" && plan.ports == 0)
    throw std::runtime_error("--ports is needed for " + plan.protocol);
  plan.patience_ns = std::int64_t{patience_ms} * 1'000'000;
  sluice::tools::run(plan, rate);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "sluice-attempts: %s\n", error.what());
  return 1;
}
