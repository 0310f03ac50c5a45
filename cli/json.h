// SPDX-License-Identifier: Apache-2.0
// The output of --json: one object per line.  Specification: doc/json.md.  Keys are only ever
// added.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/store.h"

namespace lcfs::cli {

using Json = nlohmann::ordered_json;

// Writes `object` as one line.
void print_json(std::ostream& out, Json const& object);

// Adds `key` with `bytes` as a string.  If they are not UTF-8, invalid parts become U+FFFD and
// `key`_hex holds all bytes in hexadecimal.
void put_bytes(Json& object, std::string const& key, std::string_view bytes);

Json time_json_or_null(std::int64_t ns);  // UTC; null for 0
Json timestamp_json(Timestamp const& time);
Json digest_or_null(bool have, Digest const& digest);

// A layer as `layer ls`, `layer show` and `layer tree` print it.  `parent`: the parent's name, if
// it has one.
Json layer_json(LayerInfo const& layer, std::optional<std::string> const& parent);

// An image as `image ls` and `import` print it.
struct ImageLayerLine {
  std::string id{};  // the layer's name
  std::optional<Digest> diff_id{}, chain_id{};
  std::uint64_t bytes = 0;
  bool is_new = false;
};
Json image_json(std::vector<std::string> const& names, Digest const& id,
                std::vector<ImageLayerLine> const& layers);

}  // namespace lcfs::cli
