// SPDX-License-Identifier: Apache-2.0
// Numbered datagrams, as many as the machine sends, over several flows at once. Every line on standard input
// is answered with the counts so far; at its end the senders stop, and what each flow lost is told as JSON.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "tests/tools/sockets.h"

namespace sluice::tools {

namespace {

constexpr std::size_t kBatch = 64;
constexpr std::size_t kPayload = 64;
constexpr int kRoom = 256 << 20;
constexpr std::int64_t kQuiet = 500'000'000;  // after which nothing more is on its way
constexpr std::int64_t kSecond = 1'000'000'000;

struct Plan {
  std::string sender, receiver, address;  // sender and receiver: paths of network namespaces
  std::uint16_t port = 0;                 // of the first flow; the others follow, at both ends
  std::uint16_t source_port = 0;
  unsigned flows = 1;
  double rate = 0;  // datagrams a second and flow; 0: no limit
};

// kBatch messages of kPayload bytes for sendmmsg() and recvmmsg().
class Batch {
 public:
  Batch() {
    for (std::size_t i = 0; i < kBatch; ++i) {
      vectors_[i] = {data_[i].data(), kPayload};
      messages_[i].msg_hdr.msg_iov = &vectors_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  void number(std::uint64_t first) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      const std::uint64_t value = first + i;
      std::memcpy(data_[i].data(), &value, sizeof value);
    }
  }
  [[nodiscard]] std::uint64_t number_of(std::size_t i) const {
    std::uint64_t value = 0;
    std::memcpy(&value, data_[i].data(), sizeof value);
    return value;
  }
  [[nodiscard]] mmsghdr* messages() { return messages_.data(); }

 private:
  std::array<std::array<char, kPayload>, kBatch> data_{};
  std::array<iovec, kBatch> vectors_{};
  std::array<mmsghdr, kBatch> messages_{};
};

struct Flow {
  Fd sender, receiver;
  std::atomic<std::uint64_t> sent = 0, received = 0;  // received: without duplicates
  std::uint64_t duplicates = 0, out_of_order = 0, next = 0;
  std::int64_t last_ns = 0, max_gap_ns = 0;
  std::vector<bool> seen;

  void take(std::uint64_t number) {
    if (number >= seen.size()) seen.resize(std::max<std::size_t>(number + 1, seen.size() * 2));
    if (seen[number]) {
      ++duplicates;
      return;
    }
    seen[number] = true;
    received.fetch_add(1, std::memory_order_relaxed);
    if (number < next) ++out_of_order;
    next = std::max(next, number + 1);
  }
};

void send(Flow& flow, double rate, const std::atomic<bool>& ended) {
  Batch batch;
  const auto begin = now_ns();
  while (!ended) {
    const auto sent = flow.sent.load(std::memory_order_relaxed);
    auto wanted = kBatch;
    if (rate > 0) {
      const auto due = static_cast<std::uint64_t>(static_cast<double>(now_ns() - begin) * rate / kSecond);
      if (due <= sent) {
        std::this_thread::sleep_for(std::chrono::microseconds(500));
        continue;
      }
      wanted = std::min<std::size_t>(kBatch, due - sent);
    }
    batch.number(sent);
    const int count = sendmmsg(flow.sender.get(), batch.messages(), static_cast<unsigned>(wanted), 0);
    if (count > 0) {
      flow.sent.store(sent + static_cast<std::uint64_t>(count), std::memory_order_relaxed);
    } else if (errno == EAGAIN || errno == ENOBUFS) {
      pollfd waiting{flow.sender.get(), POLLOUT, 0};
      poll(&waiting, 1, 1);
    } else {
      must_succeed(errno == ECONNREFUSED, "send");  // an ICMP error about an earlier one
    }
  }
}

// True if there was something.
bool receive(Flow& flow, Batch& batch) {
  const int count = recvmmsg(flow.receiver.get(), batch.messages(), kBatch, 0, nullptr);
  if (count <= 0) return false;
  const auto now = now_ns();
  if (flow.last_ns != 0) flow.max_gap_ns = std::max(flow.max_gap_ns, now - flow.last_ns);
  flow.last_ns = now;
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) flow.take(batch.number_of(i));
  return true;
}

void receive_all(std::vector<Flow>& flows, const std::atomic<bool>& ended) {
  Batch batch;
  std::vector<pollfd> polled;
  for (const auto& flow : flows) polled.push_back({flow.receiver.get(), POLLIN, 0});
  auto last = now_ns();
  while (!ended || now_ns() - last < kQuiet) {
    bool any = false;
    for (auto& flow : flows) any = receive(flow, batch) || any;
    if (any)
      last = now_ns();
    else
      poll(polled.data(), polled.size(), 20);
  }
}

void in_netns(const std::string& path, const std::function<void()>& action) {
  std::async(std::launch::async, [&] {
    join_netns(path);
    action();
  }).get();
}

void open_flows(const Plan& plan, std::vector<Flow>& flows) {
  const auto port_of = [](std::uint16_t first, std::size_t i) {
    return static_cast<std::uint16_t>(first + i);
  };
  in_netns(plan.receiver, [&] {
    for (std::size_t i = 0; i < flows.size(); ++i) {
      flows[i].receiver = make_socket(SOCK_DGRAM);
      make_room(flows[i].receiver, kRoom);
      bind_port(flows[i].receiver, port_of(plan.port, i));
    }
  });
  in_netns(plan.sender, [&] {
    for (std::size_t i = 0; i < flows.size(); ++i) {
      flows[i].sender = make_socket(SOCK_DGRAM);
      bind_port(flows[i].sender, plan.source_port == 0 ? 0 : port_of(plan.source_port, i));
      const auto name = socket_address(plan.address, port_of(plan.port, i));
      must_succeed(connect(flows[i].sender.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0,
                   "connect");
    }
  });
}

nlohmann::json counts(const std::vector<Flow>& flows) {
  std::uint64_t sent = 0, received = 0;
  for (const auto& flow : flows) {
    sent += flow.sent;
    received += flow.received;
  }
  return {{"sent", sent}, {"received", received}};
}

void tell(const nlohmann::json& what) {
  std::printf("%s\n", what.dump().c_str());
  std::fflush(stdout);
}

void run(const Plan& plan) {
  std::vector<Flow> flows(plan.flows);
  open_flows(plan, flows);
  std::atomic<bool> senders_ended = false, receiver_ended = false;
  std::jthread receiver([&] { receive_all(flows, receiver_ended); });
  std::vector<std::jthread> senders;
  for (auto& flow : flows) senders.emplace_back([&] { send(flow, plan.rate, senders_ended); });
  const auto begin = now_ns();
  tell("ready");
  for (int c = 0; (c = std::getchar()) != EOF;)
    if (c == '\n') tell(counts(flows));
  senders_ended = true;
  senders.clear();
  const auto seconds = static_cast<double>(now_ns() - begin) / kSecond;
  receiver_ended = true;
  receiver.join();

  auto result = counts(flows);
  result["seconds"] = seconds;
  for (const auto* name : {"duplicates", "out_of_order", "socket_drops"}) result[name] = std::uint64_t{0};
  std::int64_t gap = 0;
  for (const auto& flow : flows) {
    result["duplicates"] = result["duplicates"].get<std::uint64_t>() + flow.duplicates;
    result["out_of_order"] = result["out_of_order"].get<std::uint64_t>() + flow.out_of_order;
    result["socket_drops"] = result["socket_drops"].get<std::uint64_t>() + socket_drops(flow.receiver);
    gap = std::max(gap, flow.max_gap_ns);
  }
  result["max_gap_ms"] = static_cast<double>(gap) / 1e6;
  tell(result);
}

}  // namespace

}  // namespace sluice::tools

int main(int argc, char** argv) try {
  sluice::tools::Plan plan;
  CLI::App app{"sluice-flood: numbered datagrams at the highest rate that the machine gives"};
  app.add_option("--sender", plan.sender, "path of the sender's network namespace")->required();
  app.add_option("--receiver", plan.receiver, "path of the receiver's network namespace")->required();
  app.add_option("--address", plan.address, "of the receiver")->required();
  app.add_option("--port", plan.port, "of the first flow; the others follow")->required();
  app.add_option("--source-port", plan.source_port, "of the first flow; 0: the system chooses");
  app.add_option("--flows", plan.flows)->check(CLI::Range(1, 64))->capture_default_str();
  app.add_option("--rate", plan.rate, "datagrams a second and flow; 0: no limit");
  CLI11_PARSE(app, argc, argv);
  sluice::tools::run(plan);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "sluice-flood: %s\n", error.what());
  return 1;
}
