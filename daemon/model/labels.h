// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::model {

// The labels of an object, by key. A value whose copies share their memory: the pods of a Deployment have
// the same labels, and a cluster has a hundred thousand pods. All keys and values are one text, since an
// object may have tens of thousands of labels: so they take as much memory as their letters and eight bytes
// each.
class Labels {
 public:
  using Map = std::map<std::string, std::string>;
  using value_type = std::pair<std::string_view, std::string_view>;

  class const_iterator {
   public:
    using iterator_category = std::random_access_iterator_tag;
    using value_type = Labels::value_type;
    using difference_type = std::ptrdiff_t;
    using reference = value_type;
    struct pointer {
      value_type label;
      const value_type* operator->() const { return &label; }
    };

    const_iterator() = default;
    const_iterator(const Labels* labels, std::size_t index) : labels_(labels), index_(index) {}
    reference operator*() const { return labels_->label(index_); }
    pointer operator->() const { return {**this}; }
    const_iterator& operator++() { return *this += 1; }
    const_iterator& operator--() { return *this += -1; }
    const_iterator operator++(int) { return std::exchange(*this, *this + 1); }
    const_iterator operator--(int) { return std::exchange(*this, *this + -1); }
    const_iterator& operator+=(difference_type by) {
      index_ += static_cast<std::size_t>(by);
      return *this;
    }
    const_iterator operator+(difference_type by) const { return const_iterator(*this) += by; }
    difference_type operator-(const const_iterator& other) const {
      return static_cast<difference_type>(index_ - other.index_);
    }
    bool operator==(const const_iterator& other) const { return index_ == other.index_; }

   private:
    const Labels* labels_ = nullptr;
    std::size_t index_ = 0;
  };

  Labels() = default;
  Labels(std::initializer_list<Map::value_type> labels) : Labels(Map(labels)) {}
  explicit Labels(const Map& labels) {
    if (labels.empty()) return;
    auto made = std::make_shared<Content>();
    for (const auto& [key, value] : labels) {
      for (const auto* part : {&key, &value}) {
        made->text += *part;
        made->ends.push_back(static_cast<std::uint32_t>(made->text.size()));
      }
    }
    made->text.shrink_to_fit();
    made->ends.shrink_to_fit();
    content_ = std::move(made);
  }

  [[nodiscard]] std::size_t size() const { return content_ ? content_->ends.size() / 2 : 0; }
  [[nodiscard]] bool empty() const { return size() == 0; }
  [[nodiscard]] const_iterator begin() const { return {this, 0}; }
  [[nodiscard]] const_iterator end() const { return {this, size()}; }
  [[nodiscard]] const_iterator find(std::string_view key) const {
    const auto before = [](const value_type& label, std::string_view k) { return label.first < k; };
    const auto place = std::lower_bound(begin(), end(), key, before);
    return place != end() && place->first == key ? place : end();
  }
  [[nodiscard]] bool contains(std::string_view key) const { return find(key) != end(); }
  [[nodiscard]] std::string_view at(std::string_view key) const {
    const auto place = find(key);
    if (place == end()) throw std::out_of_range("no label " + std::string(key));
    return place->second;
  }
  [[nodiscard]] Map map() const {
    Map map;
    for (const auto& [key, value] : *this) map.emplace_hint(map.end(), key, value);
    return map;
  }
  // Copies that there are stay as they are.
  void set(std::string key, std::string value) {
    Map changed = map();
    changed.insert_or_assign(std::move(key), std::move(value));
    *this = Labels(changed);
  }
  // Nobody else has this memory.
  [[nodiscard]] bool alone() const { return content_.use_count() <= 1; }
  [[nodiscard]] bool shares_with(const Labels& other) const { return content_ == other.content_; }

  bool operator==(const Labels& other) const {
    return content_ == other.content_ || (content_ && other.content_ && *content_ == *other.content_);
  }
  std::strong_ordering operator<=>(const Labels& other) const {
    if (content_ == other.content_) return std::strong_ordering::equal;
    return std::lexicographical_compare_three_way(begin(), end(), other.begin(), other.end());
  }

 private:
  struct Content {
    std::string text;                 // key, value, key, value, …; sorted by key
    std::vector<std::uint32_t> ends;  // of each of them
    bool operator==(const Content&) const = default;
  };

  [[nodiscard]] std::string_view part(std::size_t number) const {
    const auto& [text, ends] = *content_;
    const std::uint32_t begin = number == 0 ? 0 : ends[number - 1];
    return std::string_view(text).substr(begin, ends[number] - begin);
  }
  [[nodiscard]] value_type label(std::size_t index) const { return {part(2 * index), part(2 * index + 1)}; }

  std::shared_ptr<const Content> content_;  // none: no labels
};

}  // namespace sluice::model
