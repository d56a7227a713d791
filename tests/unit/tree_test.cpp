// SPDX-License-Identifier: Apache-2.0
// A Tree against nlohmann::json, of which it is to say the same about every text.
#include "daemon/model/tree.h"

#include <gtest/gtest.h>

#include <random>

#include "daemon/model/field.h"

namespace sluice::model {
namespace {

using nlohmann::json;

json back(const Value& value) {
  switch (value.type()) {
    case Value::Type::kNull:
      return nullptr;
    case Value::Type::kBoolean:
      return value.boolean();
    case Value::Type::kUnsigned:
      return value.whole();
    case Value::Type::kNegative:
      return value.negative();
    case Value::Type::kReal:
      return value.real();
    case Value::Type::kText:
      return std::string(value.text());
    case Value::Type::kList: {
      json list = json::array();
      for (const auto& item : value.items()) list.push_back(back(item));
      return list;
    }
    case Value::Type::kMap:
      break;
  }
  json map = json::object();
  std::string before;
  for (const auto& [key, item] : value.members()) {
    EXPECT_TRUE(map.empty() || before < key) << "not in order, or twice: " << key;
    before = key;
    map[std::string(key)] = back(item);
    EXPECT_EQ(value.find(key), &item);
  }
  return map;
}

void expect_same(const std::string& text) {
  SCOPED_TRACE(text);
  const auto wanted = json::parse(text, nullptr, false);
  const auto tree = Tree::parse(text, 100);
  ASSERT_EQ(tree.has_value(), !wanted.is_discarded());
  if (!tree) return;
  EXPECT_EQ(back(tree->root()).dump(-1, ' ', true), wanted.dump(-1, ' ', true));
  EXPECT_EQ(back(Tree(wanted).root()).dump(-1, ' ', true), wanted.dump(-1, ' ', true));
}

TEST(Tree, SaysOfATextWhatTheOtherParserSays) {
  for (const auto* text : {"",
                           "null",
                           "true",
                           "[]",
                           "{}",
                           "[[],{}]",
                           R"({"b":1,"a":2})",
                           R"({"a":1,"a":{"x":[]},"b":0,"a":[2]})",
                           R"({"a":{"a":1},"a":null})",
                           "-0",
                           "-1",
                           "0.5",
                           "1e3",
                           "1e999",
                           "18446744073709551615",
                           "18446744073709551616",
                           "-9223372036854775809",
                           R"("\u00e9\ud83d\ude00\u0000")",
                           R"("\ud83d")",
                           "\"\xff\"",
                           "[1,]",
                           "{\"a\"}",
                           "1 2",
                           "\xef\xbb\xbf[1]",
                           "nul",
                           R"({"":{"":""}})"})
    expect_same(text);
}

json random_value(std::mt19937& random, int depth) {
  switch (random() % (depth > 0 ? 8 : 6)) {
    case 0:
      return nullptr;
    case 1:
      return random() % 2 == 0;
    case 2:
      return random();
    case 3:
      return -static_cast<std::int64_t>(random());
    case 4:
      return 0.25 * static_cast<double>(random());
    case 5:
      return std::string(random() % 20, static_cast<char>('a' + random() % 26));
    case 6: {
      json list = json::array();
      for (auto count = random() % 5; count > 0; --count) list.push_back(random_value(random, depth - 1));
      return list;
    }
    default: {
      json map = json::object();
      for (auto count = random() % 5; count > 0; --count)
        map[std::string(1, static_cast<char>('a' + random() % 6))] = random_value(random, depth - 1);
      return map;
    }
  }
}

TEST(Tree, SaysTheSameOfRandomAndOfBrokenTexts) {
  std::mt19937 random(18);
  for (int round = 0; round < 3000; ++round) {
    auto text = random_value(random, 5).dump();
    expect_same(text);
    for (int change = 0; change < 4; ++change) {
      const auto at = random() % text.size();
      // Keys that stand twice come of it, too.
      const char letter = "{}[]\",:0-eab\\"[random() % 13];
      if (random() % 2 == 0)
        text[at] = letter;
      else
        text.insert(at, 1, letter);
      expect_same(text);
    }
  }
}

TEST(Tree, IsNoDeeperThanAsked) {
  EXPECT_TRUE(Tree::parse(R"([{"a":[1]}])", 3));
  EXPECT_FALSE(Tree::parse(R"([{"a":[1]}])", 2));
  EXPECT_TRUE(Tree::parse("1", 0));
}

TEST(Tree, TextsAreItsOwn) {
  std::string text = R"({"key":"value"})";
  auto tree = Tree::parse(text, 100);
  ASSERT_TRUE(tree);
  const Tree moved = std::move(*tree);
  text.assign(text.size(), 'x');
  ASSERT_NE(moved.root().find("key"), nullptr);
  EXPECT_EQ(moved.root().find("key")->text(), "value");
  EXPECT_EQ(moved.root().find("other"), nullptr);
  EXPECT_EQ(moved.root().find("key")->find("of no map"), nullptr);
}

TEST(Field, WhereItemsStandIsForgottenWithThem) {
  json list = json::array();
  for (int i = 0; i < 1000; ++i) list.push_back({{"a", {i, i == 900 ? json("x") : json(1)}}});
  const Tree tree(list);
  Context context;
  const Field root(context, &tree.root(), "list");
  std::size_t seen = 0;
  for (const auto& item : root.items()) {
    for (const auto& number : item.at("a").items()) {
      (void)number.number(0, 1000);
      ++seen;
    }
    EXPECT_LT(context.steps.size(), 10u);
  }
  EXPECT_EQ(seen, 2000u);
  EXPECT_EQ(context.error, "list[900].a[1]: 'x' is not a number from 0 to 1000");
}

}  // namespace
}  // namespace sluice::model
