// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/kube/list_items.h"

namespace sluice::source {

namespace {

constexpr std::string_view kItems = "items";

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

}  // namespace

// Whether `c` belongs to a string, its quotes included.
bool ListItems::skip_string(char c) {
  if (!in_string_) {
    in_string_ = c == '"';
    return in_string_;
  }
  if (escaped_) {
    escaped_ = false;
  } else if (c == '\\') {
    escaped_ = true;
  } else if (c == '"') {
    in_string_ = false;
  }
  return true;
}

// True when an item has ended.
bool ListItems::step(char c) {
  if (in_items_) return step_item(c);
  step_envelope(c);
  return false;
}

void ListItems::step_envelope(char c) {
  envelope_ += c;
  const bool was_in_string = in_string_;
  if (skip_string(c)) {
    if (depth_ != 1) return;
    if (!was_in_string) word_.clear();
    // A longer word is another one, and must not be held twice.
    if (was_in_string && in_string_ && word_.size() <= kItems.size()) word_ += c;
    return;
  }
  if (c == '[' && depth_ == 1 && word_ == kItems) {
    in_items_ = true;
    some_items_ = false;
    depth_ = 0;
  } else if (c == '{' || c == '[') {
    ++depth_;
  } else if ((c == '}' || c == ']') && depth_ > 0) {
    --depth_;
  }
  if (c == ',') word_.clear();
}

bool ListItems::step_item(char c) {
  const bool in_string = skip_string(c);
  if (!in_string && depth_ == 0 && (c == ',' || c == ']')) {
    const bool last = c == ']';
    // An empty array has no item. Any other empty place is handed on, to be found no JSON.
    const bool ends = !last || length_ > 0 || some_items_;
    some_items_ = true;
    if (last) {
      envelope_ += c;
      word_.clear();
      in_items_ = false;
      depth_ = 1;
    }
    return ends;
  }
  if (length_ == 0 && is_space(c)) return false;
  if (!in_string && (c == '{' || c == '[')) ++depth_;
  if (!in_string && (c == '}' || c == ']') && depth_ > 0) --depth_;
  if (length_++ < item_most_) item_ += c;
  return false;
}

}  // namespace sluice::source
