// SPDX-License-Identifier: Apache-2.0
// Untrusted JSON: bounded in size and depth, every access checked; errors name the place
// ("$.layers[2].digest"). Specification: RFC 8259.  Include it in .cc files only: it includes
// nlohmann/json.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lcfs::oci {

inline constexpr std::size_t kMaxDocument = std::size_t{16} << 20;  // bytes of one document
inline constexpr int kMaxJsonDepth = 64;

// One value of a document.  It keeps the document alive.
class JsonNode {
 public:
  // Errors: kCorrupt with the offset if `text` is not JSON; kUnsupported if it is too long or
  // nested too deeply.
  static Result<JsonNode> parse(std::string_view text);

  [[nodiscard]] std::string const& where() const { return where_; }
  [[nodiscard]] bool is_object() const { return value_->is_object(); }
  [[nodiscard]] bool is_array() const { return value_->is_array(); }
  [[nodiscard]] bool is_true() const { return value_->is_boolean() && value_->get<bool>(); }

  // Member of an object; nothing if it is absent or null.  Errors: this is not an object.
  Result<std::optional<JsonNode>> find(std::string_view key) const;
  Result<JsonNode> get(std::string_view key) const;  // ... or missing
  Result<std::string> text() const;
  Result<std::uint64_t> number() const;                            // whole, not negative
  Result<std::vector<JsonNode>> elements(std::size_t most) const;  // of an array

  // Members of an object in one step.
  Result<std::string> text_or(std::string_view key, std::string_view otherwise) const;
  Result<std::string> text_of(std::string_view key) const;
  // The array under `key`; empty if it is absent.
  Result<std::vector<JsonNode>> list_of(std::string_view key, std::size_t most) const;

 private:
  JsonNode(std::shared_ptr<nlohmann::json const> root, nlohmann::json const* value,
           std::string where)
      : root_(std::move(root)), value_(value), where_(std::move(where)) {}
  [[nodiscard]] Error wrong(std::string_view expected) const;

  std::shared_ptr<nlohmann::json const> root_;
  nlohmann::json const* value_;
  std::string where_;
};

}  // namespace lcfs::oci
