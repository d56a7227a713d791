// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/kube/watcher.h"

#include <spdlog/spdlog.h>

#include "daemon/model/parse.h"
#include "daemon/source/kube/decode.h"
#include "daemon/source/kube/lines.h"
#include "daemon/source/kube/list_items.h"

namespace sluice::source {

namespace {

using namespace std::chrono_literals;

// The server sends a bookmark about each minute, so a watch that is silent for longer is broken.
constexpr Connection::Timeouts kTimeouts{.connect = 5s, .read = 90s};
constexpr unsigned kPageObjects = 500;
// A page's text is read and let go an object at a time; this only ends an answer without an end.
constexpr std::size_t kPageMost = std::size_t{1} << 30;
// The API server takes requests of up to 3 MiB and stores 1.5 MiB, in a form that can be some times shorter
// than JSON. An event is an object and a few words.
constexpr std::size_t kObjectMost = 8 << 20;
constexpr std::size_t kLineMost = kObjectMost + 1024;
constexpr std::size_t kEnvelopeMost = 64 << 10;
constexpr std::size_t kBeginning = 64 << 10;  // of an object that is too long: its name is within
constexpr unsigned kRefusedMost = 3;
constexpr int kGone = 410;
constexpr int kNotFound = 404;
constexpr auto kAbsentRetry = 5min;  // API servers are upgraded while nodes run
// A watch that the server ends sooner with nothing said counts as a failure, or we would open them in a tight
// loop.
constexpr auto kWatchLeast = 1s;

const char* path_of(model::Kind kind) {
  switch (kind) {
    case model::Kind::kNode:
      return "/api/v1/nodes";
    case model::Kind::kNamespace:
      return "/api/v1/namespaces";
    case model::Kind::kPod:
      return "/api/v1/pods";
    case model::Kind::kService:
      return "/api/v1/services";
    case model::Kind::kEndpointSlice:
      return "/apis/discovery.k8s.io/v1/endpointslices";
    case model::Kind::kServiceCidr:
      return "/apis/networking.k8s.io/v1/servicecidrs";
    case model::Kind::kNetworkPolicy:
      break;
  }
  return "/apis/networking.k8s.io/v1/networkpolicies";
}

void log_warnings(const std::vector<std::string>& warnings) {
  for (const auto& warning : warnings) spdlog::warn("{}", warning);
}

// Kubernetes has ServiceCIDRs since v1.33.
bool may_be_absent(model::Kind kind) { return kind == model::Kind::kServiceCidr; }

bool is_gone(const model::Value& status) {
  const auto* code = status.find("code");
  return code != nullptr && code->type() == model::Value::Type::kUnsigned && code->whole() == kGone;
}

}  // namespace

Watcher::Watcher(model::Kind kind, const KubeConfig& config, Sink& sink, Progress& progress)
    : kind_(kind), config_(config), sink_(sink), progress_(progress) {}

void Watcher::Outcome::lose(const std::string& why) {
  error = "watch: " + why;
  list_again = true;
}

void Watcher::run() {
  Backoff backoff(random_);
  while (!stopping()) {
    const auto outcome = attempt();
    if (outcome.list_again) version_.clear();
    if (outcome.advanced) backoff.reset();
    if (stopping()) continue;
    if (outcome.error.empty()) {
      pause(outcome.retry_after);
      continue;
    }
    progress_.lost(kind_, outcome.error);
    pause(std::max(backoff.next(), outcome.retry_after));
  }
}

void Watcher::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stop_changed_.notify_all();
  interrupter_->fire();
}

bool Watcher::stopping() {
  const std::lock_guard lock(mutex_);
  return stop_;
}

void Watcher::pause(std::chrono::milliseconds duration) {
  std::unique_lock lock(mutex_);
  stop_changed_.wait_for(lock, duration, [this] { return stop_; });
}

Watcher::Outcome Watcher::attempt() try {
  return version_.empty() ? list() : watch();
} catch (const std::exception& error) {
  return {.error = error.what(), .list_again = true};
}

Watcher::Outcome Watcher::list() {
  auto connection = Connection::make(config_, kTimeouts, interrupter_);
  if (!connection) return {.error = connection.error().message};
  Listed listed;
  std::string continue_token;
  do {
    auto outcome = list_page(**connection, listed, continue_token);
    if (!outcome.error.empty() || listed.absent) return outcome;
  } while (!continue_token.empty() && !stopping());
  if (stopping()) return {};
  paged_ = true;
  version_ = listed.version;
  progress_.listed(kind_, listed.objects.size());
  tell(std::move(listed));
  // Does not end a row of failures: a server that loses each watch at once must not be asked for lists
  // without pause.
  return {};
}

// Objects are parsed one by one as they arrive, so that never more than one is held as text or JSON: what a
// page takes is not a matter of how long its objects are.
Watcher::Outcome Watcher::list_page(Connection& connection, Listed& listed, std::string& continue_token) {
  std::string path = path_of(kind_);
  if (paged_) path += fmt::format("?limit={}", kPageObjects);
  if (!continue_token.empty()) path += "&continue=" + percent_encode(continue_token);
  ListItems items(kObjectMost, kEnvelopeMost);
  std::size_t size = 0;
  std::string problem;
  const auto take = [&](std::string_view text, bool whole) {
    if (stopping()) return false;
    auto taken = list_item(text, whole, listed);
    if (!taken) problem = taken.error().message;
    return taken.has_value();
  };
  const auto response = connection.get(path, {{}, [&](std::string_view data) {
                                                size += data.size();
                                                const auto end = items.feed(data, take);
                                                if (end == ListItems::End::kEnvelopeTooLong)
                                                  problem = no_list();
                                                return size <= kPageMost && end == ListItems::End::kNone;
                                              }});
  if (!problem.empty()) return {.error = "list: " + problem};
  if (!response) return {.error = "list: " + response.error().message};
  if (response->status == kGone && !continue_token.empty()) paged_ = false;
  if (response->status == kNotFound && may_be_absent(kind_) && !listed_) {
    listed.absent = true;
    return absent();
  }
  if (response->status != 200)
    return {.error = "list: " + response->error, .retry_after = response->retry_after};

  const auto envelope = decode_object(items.envelope());
  if (!envelope) return {.error = "list: " + envelope.error().message};
  const auto& list = envelope->root();
  listed.version = text_at(list, "metadata", "resourceVersion");
  continue_token = text_at(list, "metadata", "continue");
  const auto* array = list.find("items");
  // Items that are left in it are such that nobody was told of.
  const bool empty = array != nullptr && (array->is_null() || (array->is_list() && array->items().empty()));
  if (listed.version.empty() || !empty) return {.error = "list: " + no_list()};
  return {};
}

// Where a list was told of, the server that answers now may be an older one of several: what is known stays.
Watcher::Outcome Watcher::absent() {
  progress_.absent(kind_);
  sink_.replace({{kind_, {}}});
  return {.error = {}, .retry_after = kAbsentRetry};
}

std::string Watcher::no_list() const {
  return fmt::format("{} answered with something that is no list", config_.url());
}

Result<void> Watcher::list_item(std::string_view text, bool whole, Listed& listed) {
  if (!whole) return list_long_item(text, listed);
  const auto tree = decode_object(text);
  if (!tree) return tl::unexpected(tree.error());
  const auto& item = tree->root();
  auto parsed = model::parse_object(item, kind_);
  if (parsed) {
    log_warnings(parsed->warnings);
    listed.objects.push_back(std::move(parsed->object));
  } else {
    listed.rejected.insert_or_assign(key_of(item, kind_), reject(item, parsed.error()));
  }
  return {};
}

// It is rejected alone. What it says is not known but for its name, so that a policy isolates all that it
// could select: its namespace.
Result<void> Watcher::list_long_item(std::string_view beginning, Listed& listed) {
  auto identity = decode_identity(beginning.substr(0, kBeginning));
  identity["spec"] = {{"podSelector", nlohmann::json::object()}, {"policyTypes", {"Ingress", "Egress"}}};
  const model::Tree item(identity);
  const auto key = key_of(item.root(), kind_);
  if (key.name.empty())
    return failure("an object exceeds {} bytes and does not begin with its name", kObjectMost);
  const Error error{fmt::format("{} is longer than {} bytes of JSON; make several of it",
                                model::to_string(key), kObjectMost),
                    0};
  listed.rejected.insert_or_assign(key, reject(item.root(), error));
  return {};
}

bool Watcher::keeps_earlier(const model::ObjectKey& key) const {
  return known_.contains(key) && !closed_.contains(key);
}

Watcher::Rejected Watcher::reject(const model::Value& object, const Error& error) {
  Rejected rejected{error.message, std::nullopt};
  if (keeps_earlier(key_of(object, kind_))) {
    rejected.why += model::kKeepsEarlier;
  } else if (kind_ == model::Kind::kNetworkPolicy) {
    rejected.closed = model::closed_policy(object);
    if (rejected.closed) rejected.why += model::kClosedPolicy;
  }
  sink_.rejected(rejected.why);
  return rejected;
}

void Watcher::tell(Listed listed) {
  std::set<model::ObjectKey> present, closed;
  std::map<model::ObjectKey, std::string> reasons;
  bool keeps_some = false;
  for (auto& [key, rejected] : listed.rejected) {
    reasons.emplace(key, rejected.why);
    if (rejected.closed) {
      closed.insert(key);
      listed.objects.push_back(std::move(*rejected.closed));
    } else if (keeps_earlier(key)) {
      keeps_some = true;
      present.insert(key);
    }
  }
  for (const auto& object : listed.objects) present.insert(model::key_of(object));
  progress_.rejected(kind_, reasons);
  if (!keeps_some) {
    FullState state;
    state.emplace(kind_, std::move(listed.objects));
    sink_.replace(std::move(state));
  } else {
    // An object that is there but cannot be used stays as the sink knows it, which replace() cannot say.
    for (auto& object : listed.objects) sink_.upsert(std::move(object));
    for (const auto& key : known_) {
      if (!present.contains(key)) sink_.remove(key);
    }
  }
  listed_ = true;
  known_ = std::move(present);
  closed_ = std::move(closed);
}

Watcher::Outcome Watcher::watch() {
  auto connection = Connection::make(config_, kTimeouts, interrupter_);
  if (!connection) return {.error = connection.error().message};
  const auto seconds = std::uniform_int_distribution<unsigned>(300, 600)(random_);
  const auto path = fmt::format("{}?watch=1&resourceVersion={}&allowWatchBookmarks=true&timeoutSeconds={}",
                                path_of(kind_), percent_encode(version_), seconds);
  const auto begin = std::chrono::steady_clock::now();
  bool opened = false;
  Outcome outcome;
  Lines lines(kLineMost);
  const auto response =
      (*connection)
          ->get(path, {[&] {
                         opened = true;
                         progress_.watching(kind_);
                       },
                       [&](std::string_view data) {
                         const auto end =
                             lines.feed(data, [&](std::string_view line) { return handle(line, outcome); });
                         if (end == Lines::End::kTooLong)
                           outcome.lose(fmt::format("an event exceeds {} bytes", kLineMost));
                         return end == Lines::End::kNone;
                       }});
  if (opened && std::chrono::steady_clock::now() - begin >= kWatchLeast) outcome.advanced = true;

  if (response && response->status != 200) {
    outcome.error = "watch: " + response->error;
    outcome.retry_after = response->retry_after;
    // A server that is busy has not forgotten the version; any other refusal may be about it.
    outcome.list_again = response->status != 429 && response->status < 500;
  } else if (outcome.error.empty() && !response) {
    outcome.error = "watch: " + response.error().message;
    return outcome;
  } else if (outcome.error.empty() && !outcome.advanced) {
    outcome.error = fmt::format("watch: {} ended it at once", config_.url());
  }
  refused_ = outcome.error.empty() || outcome.advanced ? 0 : refused_ + 1;
  if (refused_ >= kRefusedMost) {
    outcome.list_again = true;
    refused_ = 0;
  }
  return outcome;
}

// One line of a watch: {"type": …, "object": …}. False ends the watch, with the reason in `outcome`.
bool Watcher::handle(std::string_view line, Outcome& outcome) {
  if (stopping()) return false;
  const auto event = decode_object(line);
  const auto* type = event ? event->root().find("type") : nullptr;
  const auto* object = event ? event->root().find("object") : nullptr;
  if (type == nullptr || !type->is_text() || object == nullptr || !object->is_map()) {
    // What it was to say is unknown, so the state is.
    outcome.lose("an event is not to be understood");
    return false;
  }
  progress_.event();
  return handle_object(type->text(), *object, outcome);
}

void Watcher::put(const model::Value& object) {
  auto parsed = model::parse_object(object, kind_);
  const auto key = parsed ? model::key_of(parsed->object) : key_of(object, kind_);
  if (parsed) {
    log_warnings(parsed->warnings);
    known_.insert(key);
    closed_.erase(key);
    progress_.settled(key);
    sink_.upsert(std::move(parsed->object));
    return;
  }
  auto rejected = reject(object, parsed.error());
  progress_.rejected(key, rejected.why);
  if (!rejected.closed) return;
  known_.insert(key);
  closed_.insert(key);
  sink_.upsert(std::move(*rejected.closed));
}

bool Watcher::handle_object(std::string_view type, const model::Value& object, Outcome& outcome) {
  if (type == "ERROR") {
    outcome.lose((is_gone(object) ? "the version watched from is gone" : "the server gave up") +
                 status_message(object));
    return false;
  }
  const auto version = text_at(object, "metadata", "resourceVersion");
  const bool added = type == "ADDED" || type == "MODIFIED";
  if (version.empty() || !(added || type == "DELETED" || type == "BOOKMARK")) {
    outcome.lose("an event is not to be understood");
    return false;
  }
  if (added) {
    put(object);
  } else if (type == "DELETED") {
    auto key = key_of(object, kind_);
    known_.erase(key);
    closed_.erase(key);
    progress_.settled(key);
    sink_.remove(std::move(key));
  }
  version_ = version;
  outcome.advanced = true;
  return true;
}

}  // namespace sluice::source
