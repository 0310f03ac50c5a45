// SPDX-License-Identifier: Apache-2.0
// What --json prints: one object a line.  The schemas are doc/json.md; they only ever grow.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/store.h"

namespace lcfs::cli {

using Json = nlohmann::ordered_json;

// One line.
void print_json(std::ostream& out, Json const& object);

// `key` as a string; bytes that are no UTF-8 become U+FFFD there, and `key`_hex holds them all.
void put_bytes(Json& object, std::string const& key, std::string_view bytes);

Json time_json_or_null(std::int64_t ns);  // null for 0
Json timestamp_json(Timestamp const& time);
Json digest_or_null(bool have, Digest const& digest);

// One layer as `layer ls`, `layer show` and `layer tree` print it.  `parent`: its name, or nothing.
Json layer_json(LayerInfo const& layer, std::optional<std::string> const& parent);

// One image as `image ls` and `import` print it.
struct ImageLayerLine {
  std::string id{};  // the layer's name
  std::optional<Digest> diff_id{}, chain_id{};
  std::uint64_t bytes = 0;
  bool is_new = false;
};
Json image_json(std::vector<std::string> const& names, Digest const& id,
                std::vector<ImageLayerLine> const& layers);

}  // namespace lcfs::cli
