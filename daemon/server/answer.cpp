// SPDX-License-Identifier: Apache-2.0
#include "daemon/server/api.h"

namespace sluice::server {

namespace {

int http_status(int code) {
  switch (code) {
    case kCniUnsupportedField:
    case kCniInvalidEnvironment:
    case kCniDecodeFailure:
    case kCniInvalidConfig:
      return 400;
    case kCniUnknownContainer:
      return 404;
    case kCniAlreadyExists:
    case kCniCheckFailed:
    case kCniHostPortTaken:
      return 409;
    case kCniTryAgainLater:
    case kCniPluginNotAvailable:
    case kCniPluginNotAvailableLimited:
    case kCniNoAddress:
      return 503;
    default:
      return 500;
  }
}

}  // namespace

Answer cni_error(int code, const std::string& msg, const std::string& details) {
  return {http_status(code), {{"code", code}, {"msg", msg}, {"details", details}}};
}

}  // namespace sluice::server
