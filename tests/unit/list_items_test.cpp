// SPDX-License-Identifier: Apache-2.0
// Lists are cut into their items however they arrive, and what is no list is found out.
#include "daemon/source/kube/list_items.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "daemon/source/kube/decode.h"

namespace sluice::source {
namespace {

struct Cut {
  std::vector<std::string> items;
  std::vector<bool> whole;
  std::string envelope;
  bool operator==(const Cut&) const = default;
};

Cut cut(const std::string& text, std::size_t piece, std::size_t item_most = 1000) {
  ListItems items(item_most, 1000);
  Cut result;
  for (std::size_t at = 0; at < text.size(); at += piece) {
    const auto end =
        items.feed(std::string_view(text).substr(at, piece), [&](std::string_view item, bool whole) {
          result.items.emplace_back(item);
          result.whole.push_back(whole);
          return true;
        });
    EXPECT_EQ(end, ListItems::End::kNone);
  }
  result.envelope = items.envelope();
  return result;
}

TEST(ListItems, CutsAListHoweverItArrives) {
  const std::string text =
      R"( {"kind":"L","metadata":{"items":[1,{"a":2}],"x":"\"items\":["}, "items" : [ {"a":"]},{\"","b":[[],{}]} ,)"
      "\n"
      R"({"c":"\\"},{}],"more":["items",[3]]} )";
  const auto whole = nlohmann::json::parse(text);
  for (std::size_t piece = 1; piece <= text.size(); ++piece) {
    SCOPED_TRACE(piece);
    const auto got = cut(text, piece);
    ASSERT_EQ(got.items.size(), 3U);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(nlohmann::json::parse(got.items[i]), whole["items"][i]);
    auto envelope = whole;
    envelope["items"] = nlohmann::json::array();
    EXPECT_EQ(nlohmann::json::parse(got.envelope), envelope);
  }
}

TEST(ListItems, WhatIsNoJsonIsNoneInPiecesEither) {
  for (const std::string text :
       {R"({"items":[{},]})", R"({"items":[,{}]})", R"({"items":[{},,{}]})", R"({"items":[{"a":1]})",
        R"({"items":[{}})", R"({"items":[}]})", R"({"items":[{}]]})", R"({"items":[{} {}]})",
        R"({"items":[{}]}x)", R"({"items":[{"a":"b]})", R"({"items"[{}]})", R"("items":[{}])"}) {
    SCOPED_TRACE(text);
    ASSERT_FALSE(nlohmann::json::accept(text));
    const auto got = cut(text, 3);
    bool good = nlohmann::json::accept(got.envelope);
    for (const auto& item : got.items) good = good && nlohmann::json::accept(item);
    EXPECT_FALSE(good);
  }
  // Nothing is lost where the member's name is written in another way: the items stay in the envelope.
  const auto escaped = cut(R"({"it\u0065ms":[{"a":1}]})", 100);
  EXPECT_TRUE(escaped.items.empty());
  EXPECT_FALSE(nlohmann::json::parse(escaped.envelope)["items"].empty());
  EXPECT_TRUE(cut(R"({"items":[ ]})", 1).items.empty());
  EXPECT_EQ(cut(R"({"items":null})", 1).envelope, R"({"items":null})");
}

TEST(ListItems, AnItemOrEnvelopeThatIsTooLongIsNotHeld) {
  const auto got = cut(R"({"items":[{"a":"12345678"},{"b":1}]})", 4, 10);
  EXPECT_EQ(got.items, (std::vector<std::string>{R"({"a":"1234)", R"({"b":1})"}));
  EXPECT_EQ(got.whole, (std::vector<bool>{false, true}));
  ListItems items(10, 100);
  EXPECT_EQ(items.feed("{\"kind\":\"" + std::string(100, 'x'), [](std::string_view, bool) { return true; }),
            ListItems::End::kEnvelopeTooLong);
}

TEST(ListItems, TheNameOfAnObjectIsReadFromItsBeginning) {
  const std::string text =
      R"({"kind":"P","metadata":{"name":"n","namespace":"s","labels":{"name":"x"},"managedFields":[{"name":"y"}]},"spec":{"name":"z"}})";
  for (const auto length : {text.size() - 1, text.find("managed"), text.find("spec")}) {
    const auto key =
        key_of(model::Tree(decode_identity(text.substr(0, length))).root(), model::Kind::kNetworkPolicy);
    EXPECT_EQ(key.ns, "s");
    EXPECT_EQ(key.name, "n");
  }
  const model::Tree none(decode_identity(R"({"spec":{"name":"z","x)"));
  EXPECT_EQ(key_of(none.root(), model::Kind::kNetworkPolicy).name, "");
}

}  // namespace
}  // namespace sluice::source
