// SPDX-License-Identifier: Apache-2.0
#include "daemon/server/http.h"

#include <httplib.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "daemon/server/client_stream.h"

namespace sluice::server {

using nlohmann::json;

namespace {

constexpr std::size_t kMostBody = 1 << 20;   // bytes
constexpr std::size_t kMostHead = 64 << 10;  // request line and headers
constexpr std::size_t kLongestPath = 1024;
constexpr std::size_t kMostListed = 100000;  // connections
constexpr int kMostMonitors = 8;             // each keeps a thread

void set_answer(httplib::Response& response, const Answer& answer) {
  response.status = answer.http;
  response.set_content(answer.body.dump(-1, ' ', false, json::error_handler_t::replace), "application/json");
}

void set_error(httplib::Response& response, int http, int code, const std::string& msg) {
  auto answer = cni_error(code, msg);
  answer.http = http;
  set_answer(response, answer);
}

// "/v1/endpoints/<which>/policy" -> which
std::optional<std::string> endpoint_of(std::string_view path) {
  constexpr std::string_view kBegin = "/v1/endpoints/", kEnd = "/policy";
  if (!path.starts_with(kBegin) || !path.ends_with(kEnd) || path.size() <= kBegin.size() + kEnd.size())
    return std::nullopt;
  return std::string(path.substr(kBegin.size(), path.size() - kBegin.size() - kEnd.size()));
}

// None: the response says what is wrong. A misspelt filter must not flush everything.
std::optional<ConnectionQuery> connection_query(const httplib::Request& request,
                                                httplib::Response& response) {
  ConnectionQuery query;
  for (const auto& [name, value] : request.params) {
    if (name == "of") {
      query.of = value;
    } else if (name == "protocol") {
      query.protocol = value;
    } else if (name == "all") {
      query.all = value == "1";
    } else {
      const auto* end = value.data() + value.size();
      const auto read = std::from_chars(value.data(), end, query.most);
      if (name == "limit" && !value.empty() && read.ec == std::errc{} && read.ptr == end &&
          query.most <= kMostListed)
        continue;
      set_error(response, 400, kCniDecodeFailure,
                name == "limit"
                    ? "limit is a number up to " + std::to_string(kMostListed) + ", not '" + value + "'"
                    : "conntrack has no parameter '" + name + "' (see docs/api.md)");
      return std::nullopt;
    }
  }
  return query;
}

}  // namespace

class Http::Routes final : public httplib::Server {
 public:
  Routes(Api& api, Face face) : api_(api), face_(face) {
    svr_sock_ = 0;  // any value but INVALID_SOCKET: content providers run
    set_payload_max_length(face == Face::kControl ? kMostBody : 0);
    set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
      return guarded(response, [&] { return route(request, response); });
    });
    Post(R"(/v1/cni/[a-z]+)", [this](const httplib::Request& request, httplib::Response& response,
                                     const httplib::ContentReader& reader) {
      guarded(response, [&] {
        post(request, response, reader);
        return HandlerResponse::Handled;
      });
    });
    set_error_handler(HandlerWithResponse([](const httplib::Request&, httplib::Response& response) {
      if (response.body.empty())
        set_error(response, response.status, response.status < 500 ? kCniDecodeFailure : kCniInternal,
                  "the request could not be read (HTTP status " + std::to_string(response.status) + ")");
      return HandlerResponse::Handled;
    }));
  }

  void serve(Connection& connection) {
    ClientStream stream(connection, face_ == Face::kControl ? kMostHead + kMostBody : kMostHead);
    bool closed = false;
    try {
      // One request a connection: a connection costs microseconds, and an idle one would keep a thread.
      process_request(stream, true, closed, [](httplib::Request& request) {
        request.ranges.clear();                    // answers are whole
        request.headers.erase("Accept-Encoding");  // and small: compressing costs more memory than it saves
      });
      stream.finish();
    } catch (const std::exception&) {
      // Out of memory, or a library's surprise, outside of a handler: this connection ends, the daemon goes
      // on.
    }
  }

 private:
  template <typename Handler>
  HandlerResponse guarded(httplib::Response& response, Handler handler) {
    try {
      return handler();
    } catch (const std::exception& error) {
      set_error(response, 500, kCniInternal, std::string("sluiced failed on this request: ") + error.what());
    } catch (...) {
      set_error(response, 500, kCniInternal, "sluiced failed on this request");
    }
    return HandlerResponse::Handled;
  }

  // Answers all but POST of a known path, whose body is still to be read.
  HandlerResponse route(const httplib::Request& request, httplib::Response& response) {
    const auto& path = request.path;
    if (path.size() > kLongestPath) {
      set_error(response, 414, kCniDecodeFailure,
                "the path is longer than " + std::to_string(kLongestPath) + " bytes");
      return HandlerResponse::Handled;
    }
    const bool control = face_ == Face::kControl;
    const bool posted = control && (path == "/v1/cni/add" || path == "/v1/cni/del" ||
                                    path == "/v1/cni/check" || path == "/v1/cni/gc");
    if (posted && request.method == "POST") {
      // Which of them counts is a matter of the reader (RFC 9112, 6.3).
      if (request.get_header_value_count("Content-Length") +
              request.get_header_value_count("Transfer-Encoding") >
          1) {
        set_error(response, 400, kCniDecodeFailure, "the request tells its length more than once");
        return HandlerResponse::Handled;
      }
      if (request.has_header("Content-Length") || request.get_header_value("Transfer-Encoding") == "chunked")
        return HandlerResponse::Unhandled;
      set_error(response, 411, kCniDecodeFailure, "the request has no Content-Length");
      return HandlerResponse::Handled;
    }
    const bool got =
        get_health(path, response, request.method) ||
        (control && (get_control(path, request, response) || delete_control(path, request, response)));
    if (got) return HandlerResponse::Handled;
    if (posted)
      set_error(response, 405, kCniDecodeFailure, path + " takes POST, not " + request.method);
    else
      set_error(response, 404, kCniDecodeFailure, "nothing is served at " + path + " (see docs/api.md)");
    return HandlerResponse::Handled;
  }

  bool get_health(const std::string& path, httplib::Response& response, const std::string& method) {
    const bool probe = path == "/healthz" || path == "/readyz";
    const bool known = path == "/metrics" || (probe && face_ != Face::kMetrics);
    if (!known) return false;
    if (method != "GET" && method != "HEAD") {
      set_error(response, 405, kCniDecodeFailure, path + " takes GET, not " + method);
    } else if (path == "/healthz") {
      const bool alive = api_.alive();
      response.status = alive ? 200 : 500;
      response.set_content(alive ? "alive\n" : "sluiced's controller does not answer\n", "text/plain");
    } else if (path == "/readyz") {
      std::string why_not;
      const bool ready = api_.ready(why_not);
      response.status = ready ? 200 : 503;
      response.set_content(ready ? "ready\n" : why_not + "\n", "text/plain");
    } else {
      response.status = 200;
      response.set_content(api_.metrics(), "text/plain; version=0.0.4; charset=utf-8");
    }
    return true;
  }

  bool delete_control(const std::string& path, const httplib::Request& request, httplib::Response& response) {
    if (request.method != "DELETE" || path != "/v1/conntrack") return false;
    if (const auto query = connection_query(request, response))
      set_answer(response, api_.conntrack_flush(*query));
    return true;
  }

  bool get_control(const std::string& path, const httplib::Request& request, httplib::Response& response) {
    if (request.method != "GET" && request.method != "HEAD") return false;
    if (path == "/v1/cni/status")
      set_answer(response, api_.cni_status());
    else if (path == "/v1/status")
      set_answer(response, api_.status());
    else if (path == "/v1/endpoints")
      set_answer(response, api_.endpoints());
    else if (path == "/v1/firewall")
      set_answer(response, api_.firewall());
    else if (path == "/v1/services")
      set_answer(response, api_.services());
    else if (path == "/v1/modules")
      set_answer(response, api_.modules());
    else if (path == "/v1/conntrack") {
      if (const auto query = connection_query(request, response))
        set_answer(response, api_.conntrack_list(*query));
    } else if (path == "/v1/monitor")
      monitor(request, response);
    else if (const auto which = endpoint_of(path))
      set_answer(response, api_.endpoint_policy(*which));
    else
      return false;
    return true;
  }

  void post(const httplib::Request& request, httplib::Response& response,
            const httplib::ContentReader& reader) {
    std::string body;
    bool large = false;
    // The limit counts what arrives here, chunked or decompressed as it may be.
    const bool whole = reader([&](const char* data, size_t size) {
      large = body.size() + size > kMostBody;
      if (!large) body.append(data, size);
      return !large;
    });
    if (large || response.status == 413)
      return set_error(response, 413, kCniDecodeFailure, "the request is larger than 1 MiB");
    if (!whole)
      return set_error(response, 400, kCniDecodeFailure, "the request ended early, or came too slowly");
    const auto parsed = json::parse(body, nullptr, false);
    if (parsed.is_discarded()) return set_error(response, 400, kCniDecodeFailure, "the request is not JSON");
    if (!parsed.is_object())
      return set_error(response, 400, kCniDecodeFailure, "the request is not a JSON object");
    const auto& path = request.path;
    set_answer(response, path == "/v1/cni/add"     ? api_.cni_add(parsed)
                         : path == "/v1/cni/del"   ? api_.cni_del(parsed)
                         : path == "/v1/cni/check" ? api_.cni_check(parsed)
                                                   : api_.cni_gc(parsed));
  }

  void monitor(const httplib::Request& request, httplib::Response& response) {
    if (request.method == "HEAD") return set_answer(response, {});
    if (monitors_.fetch_add(1) >= kMostMonitors) {
      --monitors_;
      return set_error(
          response, 503, kCniTryAgainLater,
          "there are " + std::to_string(kMostMonitors) + " monitors already; end one of them first");
    }
    const bool both = !request.has_param("drops") && !request.has_param("verdicts");
    const bool drops = both || request.get_param_value("drops") == "1";
    const bool verdicts = both || request.get_param_value("verdicts") == "1";
    response.status = 200;
    response.set_chunked_content_provider(
        "application/x-ndjson",
        [this, drops, verdicts](size_t, httplib::DataSink& sink) {
          return stream_events(drops, verdicts, sink);
        },
        [this](bool) { --monitors_; });
  }

  bool stream_events(bool drops, bool verdicts, httplib::DataSink& sink) {
    try {
      api_.monitor(drops, verdicts, [&](const std::string& line) {
        if (!sink.is_writable()) return false;
        return line.empty() || sink.write((line + "\n").data(), line.size() + 1);
      });
    } catch (const std::exception&) {
      return false;  // the answer has begun, so its early end is all that can be told
    }
    sink.done();
    return true;
  }

  Api& api_;
  const Face face_;
  std::atomic<int> monitors_{0};
};

Http::Http(Api& api, Face face) : routes_(std::make_unique<Routes>(api, face)) {}
Http::~Http() = default;
void Http::serve(Connection& connection) { routes_->serve(connection); }

}  // namespace sluice::server
