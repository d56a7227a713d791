// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace sluice::policy {

// Takes a list of what is known about the objects of a map by "namespace/name" over to the map's new state.
// An entry has `source`, the object it was made of, and stays as long as that very object is there: only what
// changed costs more than a comparison of pointers. Entries of objects that are gone or replaced move to
// `removed`. False if nothing changed.
template <typename Object, typename Entry, typename Make>
[[nodiscard]] bool follow(const std::map<std::string, std::shared_ptr<const Object>>& objects,
                          std::vector<Entry>& known, std::vector<Entry>& removed, Make&& make) {
  const auto same = [](const auto& object, const Entry& entry) { return object.second == entry.source; };
  if (std::ranges::equal(objects, known, same)) return false;

  std::vector<Entry> before = std::exchange(known, {});
  known.reserve(objects.size());
  auto old = before.begin();
  const auto old_key = [&] { return old->source->ns + "/" + old->source->name; };
  for (const auto& [key, object] : objects) {
    while (old != before.end() && old->source != object && old_key() <= key)
      removed.push_back(std::move(*old++));
    if (old != before.end() && old->source == object) {
      known.push_back(std::move(*old++));
    } else {
      known.push_back(make(object));
    }
  }
  std::move(old, before.end(), std::back_inserter(removed));
  return true;
}

}  // namespace sluice::policy
