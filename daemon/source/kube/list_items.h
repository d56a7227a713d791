// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice::source {

// Cuts the JSON text of a list, as it arrives, into its items, so that one object at a time is held and not a
// page of them. It only looks for where an item ends; whoever is handed an item, and the envelope, parses
// them and finds what is no JSON.
class ListItems {
 public:
  enum class End { kNone, kRefused, kEnvelopeTooLong };
  ListItems(std::size_t item_most, std::size_t envelope_most)
      : item_most_(item_most), envelope_most_(envelope_most) {}

  // `item(std::string_view text, bool whole)` is called for each item; false stops. An item that is longer
  // than `item_most` is handed on as its beginning, with `whole` false.
  template <typename Item>
  End feed(std::string_view data, Item&& item) {
    for (const char c : data) {
      const bool ends = step(c);
      if (envelope_.size() > envelope_most_) return End::kEnvelopeTooLong;
      if (!ends) continue;
      const bool go_on = item(std::string_view(item_), length_ <= item_most_);
      item_.clear();
      length_ = 0;
      if (!go_on) return End::kRefused;
    }
    return End::kNone;
  }

  // The list without its items: they are an empty array here. Complete when the answer is.
  [[nodiscard]] const std::string& envelope() const { return envelope_; }

 private:
  bool step(char c);
  bool step_item(char c);
  void step_envelope(char c);
  bool skip_string(char c);

  const std::size_t item_most_;
  const std::size_t envelope_most_;
  std::string envelope_;
  std::string item_;
  std::size_t length_ = 0;  // of the item, whose text is kept up to item_most_
  std::string word_;        // the last string in the outermost object: the name of the member that follows
  unsigned depth_ = 0;      // of objects and arrays; inside the array of items, of those within an item
  bool in_string_ = false;
  bool escaped_ = false;
  bool in_items_ = false;
  bool some_items_ = false;
};

}  // namespace sluice::source
