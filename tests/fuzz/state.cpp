// SPDX-License-Identifier: Apache-2.0
// The record of an attachment. As it is, any change of it is refused; with its checksum made right, which no
// accident does, it is read as what it says or refused.
#include <cstdint>
#include <cstdlib>

#include "daemon/ipam/record.h"

namespace {

void read(const std::string& content) {
  using namespace sluice::ipam;
  const auto attachment = decode(content);
  if (!attachment) {
    if (attachment.error().message.empty()) std::abort();
    return;
  }
  const auto again = decode(encode(*attachment));
  if (!again || *again != *attachment) std::abort();
  const auto name = parse_name(record_name(*attachment));
  if (!name || name->ipv4 != attachment->ipv4 || name->endpoint != attachment->endpoint) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  read(text);
  const auto line = text.substr(0, text.find('\n'));
  read(line + "\n" + sluice::ipam::sha256(line) + "\n");
  if (const auto name = sluice::ipam::parse_name(text))
    if (name->endpoint == 0 || name->endpoint >= SLUICE_MAX_ENDPOINTS || !name->ipv4.is_v4()) std::abort();
  return 0;
}
