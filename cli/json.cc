// SPDX-License-Identifier: Apache-2.0
#include "cli/json.h"

#include <fmt/format.h>

#include "cli/print.h"
#include "cli/units.h"

namespace lcfs::cli {

void print_json(std::ostream& out, Json const& object) {
  out << object.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
}

void put_bytes(Json& object, std::string const& key, std::string_view bytes) {
  object[key] = bytes;
  if (is_utf8(bytes)) return;
  std::string hex;
  for (char const c : bytes) hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
  object[key + "_hex"] = hex;
}

Json time_json_or_null(std::int64_t ns) { return ns == 0 ? Json(nullptr) : Json(time_json(ns)); }

Json timestamp_json(Timestamp const& time) { return {{"sec", time.sec}, {"nsec", time.nsec}}; }

Json digest_or_null(bool have, Digest const& digest) {
  return have ? Json(digest_text(digest)) : Json(nullptr);
}

Json layer_json(LayerInfo const& layer, std::optional<std::string> const& parent) {
  auto const sizes = sizes_of(layer);
  Json object;
  object["name"] = layer.name;
  object["parent"] = parent ? Json(*parent) : Json(nullptr);
  object["state"] = layer.state == LayerState::kOpen ? "open" : "frozen";
  object["anonymous"] = layer.anonymous;
  object["own_bytes"] = sizes.own * kBlockSize;
  object["exclusive_bytes"] = sizes.exclusive * kBlockSize;
  object["shared_bytes"] = sizes.shared * kBlockSize;
  object["inherited_bytes"] = sizes.inherited * kBlockSize;
  object["quota_bytes"] =
      layer.quota_blocks == 0 ? Json(nullptr) : Json(layer.quota_blocks * kBlockSize);
  object["inodes"] = layer.inodes;
  object["children"] = layer.children;
  object["images"] = layer.images;
  object["created"] = time_json_or_null(layer.created_ns);
  object["frozen"] = time_json_or_null(layer.frozen_ns);
  object["diff_id"] = digest_or_null(layer.has_digests, layer.diff_id);
  object["chain_id"] = digest_or_null(layer.has_digests, layer.chain_id);
  object["diff_bytes"] = layer.diff_bytes;
  return object;
}

Json image_json(std::vector<std::string> const& names, Digest const& id,
                std::vector<ImageLayerLine> const& layers) {
  Json object;
  object["names"] = names;
  object["id"] = digest_text(id);
  object["top_layer"] = layers.empty() ? Json(nullptr) : Json(layers.back().id);
  object["layers"] = Json::array();
  for (auto const& layer : layers) {
    Json line;
    line["id"] = layer.id;
    line["diff_id"] = layer.diff_id ? Json(digest_text(*layer.diff_id)) : Json(nullptr);
    line["chain_id"] = layer.chain_id ? Json(digest_text(*layer.chain_id)) : Json(nullptr);
    line["bytes"] = layer.bytes;
    line["new"] = layer.is_new;
    object["layers"].push_back(std::move(line));
  }
  return object;
}

}  // namespace lcfs::cli
