// SPDX-License-Identifier: Apache-2.0
#include "oci/json.h"

#include <fmt/format.h>

namespace lcfs::oci {
namespace {

using nlohmann::json;

// Builds the document as nlohmann's own parser does, but counts levels and stops at too many;
// throws nothing.
class BoundedBuilder {
 public:
  explicit BoundedBuilder(json& root) : dom_(root, false) {}

  bool null() { return dom_.null(); }
  bool boolean(bool v) { return dom_.boolean(v); }
  bool number_integer(json::number_integer_t v) { return dom_.number_integer(v); }
  bool number_unsigned(json::number_unsigned_t v) { return dom_.number_unsigned(v); }
  bool number_float(json::number_float_t v, std::string const& s) {
    return dom_.number_float(v, s);
  }
  bool string(std::string& v) { return dom_.string(v); }
  bool binary(json::binary_t& v) { return dom_.binary(v); }
  bool start_object(std::size_t n) { return deeper() && dom_.start_object(n); }
  bool key(std::string& v) { return dom_.key(v); }
  bool end_object() { return --depth_, dom_.end_object(); }
  bool start_array(std::size_t n) { return deeper() && dom_.start_array(n); }
  bool end_array() { return --depth_, dom_.end_array(); }
  bool parse_error(std::size_t position, std::string const& /*token*/,
                   nlohmann::detail::exception const& /*what*/) {
    offset_ = position > 0 ? position - 1 : 0;
    return false;
  }

  [[nodiscard]] bool too_deep() const { return too_deep_; }
  [[nodiscard]] std::size_t offset() const { return offset_; }

 private:
  bool deeper() {
    too_deep_ = ++depth_ > kMaxJsonDepth;
    return !too_deep_;
  }

  nlohmann::detail::json_sax_dom_parser<json> dom_;
  int depth_ = 0;
  bool too_deep_ = false;
  std::size_t offset_ = 0;
};

}  // namespace

Result<JsonNode> JsonNode::parse(std::string_view text) {
  if (text.size() > kMaxDocument) {
    return Error::unsupported(
        fmt::format("JSON document of {} bytes; the maximum is {}", text.size(), kMaxDocument));
  }
  auto root = std::make_shared<json>();
  BoundedBuilder builder(*root);
  if (!json::sax_parse(text.begin(), text.end(), &builder)) {
    if (builder.too_deep()) {
      return Error::unsupported(
          fmt::format("JSON is nested more than {} levels deep", kMaxJsonDepth));
    }
    return Error::corrupt("not valid JSON").at(builder.offset());
  }
  auto const* value = root.get();
  return JsonNode(std::move(root), value, "$");
}

Error JsonNode::wrong(std::string_view expected) const {
  return Error::corrupt(
      fmt::format("{} must be {}, not {}", where_, expected, value_->type_name()));
}

Result<std::optional<JsonNode>> JsonNode::find(std::string_view key) const {
  if (!value_->is_object()) return wrong("an object");
  auto const it = value_->find(std::string(key));
  if (it == value_->end() || it->is_null()) return std::optional<JsonNode>{};
  return std::optional<JsonNode>(JsonNode(root_, &*it, fmt::format("{}.{}", where_, key)));
}

Result<JsonNode> JsonNode::get(std::string_view key) const {
  LCFS_TRY_ASSIGN(auto found, find(key));
  if (!found) return Error::corrupt(fmt::format("{}.{} is missing", where_, key));
  return *std::move(found);
}

Result<std::string> JsonNode::text() const {
  if (!value_->is_string()) return wrong("a string");
  return *value_->get_ptr<std::string const*>();
}

Result<std::uint64_t> JsonNode::number() const {
  if (value_->is_number_unsigned()) return *value_->get_ptr<json::number_unsigned_t const*>();
  if (value_->is_number())
    return Error::corrupt(fmt::format("{} must be a whole number that is not negative", where_));
  return wrong("a whole number that is not negative");
}

Result<std::vector<JsonNode>> JsonNode::elements(std::size_t most) const {
  if (!value_->is_array()) return wrong("an array");
  if (value_->size() > most) {
    return Error::unsupported(
        fmt::format("{} has {} entries; the maximum is {}", where_, value_->size(), most));
  }
  std::vector<JsonNode> nodes;
  nodes.reserve(value_->size());
  for (auto const& element : *value_) {
    nodes.push_back(JsonNode(root_, &element, fmt::format("{}[{}]", where_, nodes.size())));
  }
  return nodes;
}

Result<std::string> JsonNode::text_or(std::string_view key, std::string_view otherwise) const {
  LCFS_TRY_ASSIGN(auto const found, find(key));
  if (!found) return std::string(otherwise);
  return found->text();
}

Result<std::string> JsonNode::text_of(std::string_view key) const {
  LCFS_TRY_ASSIGN(auto const found, get(key));
  return found.text();
}

Result<std::vector<JsonNode>> JsonNode::list_of(std::string_view key, std::size_t most) const {
  LCFS_TRY_ASSIGN(auto const found, find(key));
  if (!found) return std::vector<JsonNode>{};
  return found->elements(most);
}

}  // namespace lcfs::oci
