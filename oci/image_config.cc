// SPDX-License-Identifier: Apache-2.0
#include "oci/image_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "format/records.h"
#include "oci/json.h"
#include "oci/platform.h"
#include "oci/quote.h"
#include "oci/sha256.h"

namespace lcfs::oci {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::size_t kMaxHistory = 65536;

constexpr char const* kKeys[] = {"CMD",     "ENTRYPOINT", "ENV",    "LABEL", "USER",
                                 "WORKDIR", "STOPSIGNAL", "EXPOSE", "VOLUME"};

Error wrong_change(std::string_view text, std::string_view why) {
  return Error::invalid(fmt::format("config change \"{}\": {}", printable(text), why));
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (;;) {
    text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
    if (text.empty()) return words;
    words.emplace_back(text.substr(0, text.find_first_of(" \t")));
    text.remove_prefix(words.back().size());
  }
}

// The strings of a JSON array; nothing if `text` is something else.
std::optional<std::vector<std::string>> string_array(std::string_view text) {
  auto const json = Json::parse(text, nullptr, false);
  if (!json.is_array() ||
      !std::all_of(json.begin(), json.end(), [](Json const& j) { return j.is_string(); }))
    return std::nullopt;
  return json.get<std::vector<std::string>>();
}

Status check_change(ConfigChange const& change, std::string_view text) {
  auto const& [key, value] = change;
  if (std::find(std::begin(kKeys), std::end(kKeys), key) == std::end(kKeys)) {
    return wrong_change(text, fmt::format("it must begin with one of {}", fmt::join(kKeys, ", ")));
  }
  if ((key == "CMD" || key == "ENTRYPOINT" || key == "VOLUME") && value.starts_with('[') &&
      !string_array(value)) {
    return wrong_change(text, "not a JSON array of strings");
  }
  if ((key == "ENV" || key == "LABEL") && value.find('=') + 1 <= 1)
    return wrong_change(text, fmt::format("{} must be NAME=VALUE", key));
  if (key == "EXPOSE") {
    for (auto const& port : words_of(value)) {
      auto const digits = port.find_first_not_of("0123456789-");
      auto const protocol = digits == std::string::npos ? "" : port.substr(digits);
      if (digits == 0 ||
          (protocol != "" && protocol != "/tcp" && protocol != "/udp" && protocol != "/sctp")) {
        return wrong_change(
            text, fmt::format("\"{}\" is not a port, such as 80 or 53/udp", printable(port)));
      }
    }
  }
  if ((key == "EXPOSE" || key == "VOLUME") && value.empty())
    return wrong_change(text, fmt::format("{} needs a value", key));
  return {};
}

// The object under `key`; created if it is missing or not an object.
Json& object_in(Json& object, char const* key) {
  auto& inner = object[key];
  if (!inner.is_object()) inner = Json::object();
  return inner;
}

void set_text(Json& config, char const* key, std::string const& value) {
  if (value.empty()) {
    config.erase(key);
  } else {
    config[key] = value;
  }
}

void set_command(Json& config, char const* key, std::string const& value) {
  auto const array = string_array(value);
  auto const command = array           ? *array
                       : value.empty() ? std::vector<std::string>{}
                                       : std::vector<std::string>{"/bin/sh", "-c", value};
  if (command.empty()) {
    config.erase(key);
  } else {
    config[key] = command;
  }
}

void set_variable(Json& config, std::string const& value) {
  auto& list = config["Env"];
  if (!list.is_array()) list = Json::array();
  auto const name = value.substr(0, value.find('=') + 1);
  for (auto& entry : list) {
    if (!entry.is_string() || !entry.get<std::string>().starts_with(name)) continue;
    entry = value;
    return;
  }
  list.push_back(value);
}

void apply(Json& config, ConfigChange const& change) {
  auto const& [key, value] = change;
  if (key == "CMD") set_command(config, "Cmd", value);
  if (key == "ENTRYPOINT") set_command(config, "Entrypoint", value);
  if (key == "ENV") set_variable(config, value);
  if (key == "LABEL")
    object_in(config, "Labels")[value.substr(0, value.find('='))] =
        value.substr(value.find('=') + 1);
  if (key == "USER") set_text(config, "User", value);
  if (key == "STOPSIGNAL") set_text(config, "StopSignal", value);
  if (key == "WORKDIR") {
    auto const there = config.find("WorkingDir");
    auto const before =
        there != config.end() && there->is_string() ? there->get<std::string>() : std::string("/");
    bool const relative = !value.empty() && !value.starts_with('/');
    set_text(config, "WorkingDir",
             relative ? before + (before.ends_with('/') ? "" : "/") + value : value);
  }
  if (key == "EXPOSE") {
    for (auto const& port : words_of(value)) {
      object_in(config,
                "ExposedPorts")[port.find('/') == std::string::npos ? port + "/tcp" : port] =
          Json::object();
    }
  }
  if (key == "VOLUME") {
    for (auto const& path : string_array(value).value_or(words_of(value)))
      object_in(config, "Volumes")[path] = Json::object();
  }
}

// A config that was checked at its import, or a new one.
Result<Json> base_config(ImagePlan const& plan) {
  Json config = Json::object();
  if (plan.parent) {
    LCFS_TRY(JsonNode::parse(*plan.parent));  // bounds its depth
    config = Json::parse(*plan.parent, nullptr, false);
    if (!config.is_object())
      return Error::corrupt("the config of the base image is not a JSON object");
    return config;
  }
  auto const host = host_platform();
  config["created"] = plan.created;
  config["architecture"] = host.architecture;
  if (!host.variant.empty()) config["variant"] = host.variant;
  config["os"] = host.os;
  return config;
}

std::string dump(Json const& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

Result<std::vector<HistoryLine>> config_history(std::string_view config) {
  LCFS_TRY_ASSIGN(auto const root, JsonNode::parse(config));
  LCFS_TRY_ASSIGN(auto const list, root.list_of("history", kMaxHistory));
  std::vector<HistoryLine> out;
  for (auto const& entry : list) {
    HistoryLine line;
    LCFS_TRY_ASSIGN(line.created, entry.text_or("created", ""));
    LCFS_TRY_ASSIGN(line.created_by, entry.text_or("created_by", ""));
    LCFS_TRY_ASSIGN(line.comment, entry.text_or("comment", ""));
    LCFS_TRY_ASSIGN(auto const empty, entry.find("empty_layer"));
    line.empty_layer = empty && empty->is_true();
    out.push_back(std::move(line));
  }
  return out;
}

Result<ConfigChange> parse_config_change(std::string_view text) {
  std::size_t const end = std::min(text.find_first_of("= \t"), text.size());
  ConfigChange change{std::string(text.substr(0, end)), {}};
  std::transform(change.key.begin(), change.key.end(), change.key.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  auto value = text.substr(end);
  if (value.starts_with('=')) {
    value.remove_prefix(1);
  } else {
    value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
  }
  change.value = value;
  LCFS_TRY(check_change(change, text));
  return change;
}

Result<MadeImage> make_image_documents(ImagePlan const& plan) {
  LCFS_TRY_ASSIGN(Json config, base_config(plan));
  config["created"] = plan.created;
  config.erase("id");  // docker 1.x stored the id of another image there
  config.erase("parent");
  config.erase("container");
  config.erase("container_config");
  auto& run = object_in(config, "config");
  for (auto const& change : plan.changes) apply(run, change);
  Json diff_ids = Json::array();
  auto& history = config["history"];
  if (!history.is_array()) history = Json::array();
  // Each line that made a layer accounts for one: an image without history must not lend its layers
  // those of new ones.
  auto const makes_layer = [](Json const& line) {
    if (!line.is_object()) return true;
    auto const empty = line.find("empty_layer");
    return empty == line.end() || !empty->is_boolean() || !empty->get<bool>();
  };
  auto const told = std::count_if(history.begin(), history.end(), makes_layer);
  auto const old = std::count_if(plan.layers.begin(), plan.layers.end(),
                                 [](ImageLayer const& l) { return !l.is_new; });
  for (auto i = told; i < old; ++i) history.push_back({{"comment", "an image without history"}});
  bool any_new = false;
  for (auto const& layer : plan.layers) {
    diff_ids.push_back(format::digest_text(layer.diff_id));
    if (!layer.is_new) continue;
    any_new = true;
    Json line = {{"created", plan.created}, {"created_by", plan.created_by}};
    if (!plan.comment.empty()) line["comment"] = plan.comment;
    history.push_back(std::move(line));
  }
  if (!any_new)
    history.push_back(
        {{"created", plan.created}, {"created_by", plan.created_by}, {"empty_layer", true}});
  config["rootfs"] = {{"type", "layers"}, {"diff_ids", std::move(diff_ids)}};

  MadeImage made;
  made.config = dump(config);
  made.config_digest = sha256(made.config);
  Json manifest = {{"schemaVersion", 2},
                   {"mediaType", "application/vnd.oci.image.manifest.v1+json"}};
  manifest["config"] = {{"mediaType", "application/vnd.oci.image.config.v1+json"},
                        {"digest", format::digest_text(made.config_digest)},
                        {"size", made.config.size()}};
  manifest["layers"] = Json::array();
  for (auto const& layer : plan.layers) {
    manifest["layers"].push_back({{"mediaType", "application/vnd.oci.image.layer.v1.tar"},
                                  {"digest", format::digest_text(layer.diff_id)},
                                  {"size", layer.bytes}});
  }
  made.manifest = dump(manifest);
  made.manifest_digest = sha256(made.manifest);
  return made;
}

}  // namespace lcfs::oci
