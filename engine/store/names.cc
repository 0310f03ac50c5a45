// SPDX-License-Identifier: Apache-2.0
// Finding layers and images: the name and digest tables of the store tree, and what users may type.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "engine/store/image_table.h"
#include "engine/store/name_table.h"
#include "engine/store/store_impl.h"
#include "engine/tree/probe.h"
#include "engine/tree/tree.h"

namespace lcfs {

namespace {

bool is_hex(std::string_view s) {
  return std::all_of(s.begin(), s.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_alnum(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

}  // namespace

Result<std::optional<NameTable::Hit>> NameTable::find(std::string_view name) const {
  Hit hit;
  auto match = [&](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const info, parse_name(key, value));
    if (info.name != name) return false;
    hit = {key, info.id, info.type};
    return true;
  };
  LCFS_TRY_ASSIGN(auto const p,
                  probe(tree_.read(), {0, kName, name_key(hash_seed_, name)}, 1, match));
  if (!p.found) return std::optional<Hit>{};
  return std::optional<Hit>(hit);
}

Status NameTable::put(std::string_view name, std::uint64_t id, NameType type) {
  auto match = [&](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const info, parse_name(key, value));
    return info.name == name;
  };
  LCFS_TRY_ASSIGN(auto const p,
                  probe(tree_.read(), {0, kName, name_key(hash_seed_, name)}, 1, match));
  if (p.found) {
    return Error::exists(fmt::format("the name '{}' is taken", name)).in(device_.name());
  }
  if (!p.free) return Error::no_space("too many names with the same hash").in(device_.name());
  return tree_.edit().put(*p.free, as_bytes(encode_name({id, type, name})));
}

Status NameTable::erase(std::string_view name) {
  LCFS_TRY_ASSIGN(auto const hit, find(name));
  if (!hit)
    return Error::corrupt(fmt::format("the name '{}' is missing from the name table", name))
        .in(device_.name());
  return tree_.edit().erase_range(hit->key, hit->key, nullptr);
}

Result<std::optional<NameTable::Hit>> NameTable::find_digest(Digest const& digest,
                                                             NameType type) const {
  Hit hit;
  auto match = [&](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const info, parse_digest(key, value));
    if (info.digest != digest || info.type != type) return false;
    hit = {key, info.id, info.type};
    return true;
  };
  LCFS_TRY_ASSIGN(auto const p, probe(tree_.read(), {0, kDigest, digest_key(digest)}, 1, match));
  if (!p.found) return std::optional<Hit>{};
  return std::optional<Hit>(hit);
}

Status NameTable::put_digest(Digest const& digest, std::uint64_t id, NameType type) {
  auto match = [](Key const&, Bytes) -> Result<bool> { return false; };
  LCFS_TRY_ASSIGN(auto const p, probe(tree_.read(), {0, kDigest, digest_key(digest)}, 1, match));
  if (!p.free) return Error::no_space("too many digests with the same prefix").in(device_.name());
  return tree_.edit().put(*p.free, as_bytes(encode_digest({digest, id, type})));
}

Status NameTable::erase_digest(Digest const& digest, NameType type) {
  LCFS_TRY_ASSIGN(auto const hit, find_digest(digest, type));
  if (!hit) return Error::corrupt("a digest is missing from the digest table").in(device_.name());
  return tree_.edit().erase_range(hit->key, hit->key, nullptr);
}

Status Store::check_layer_name(std::string_view name) {
  bool ok = !name.empty() && name.size() <= kMaxLayerName && is_alnum(name.front());
  for (char c : name) ok = ok && (is_alnum(c) || c == '.' || c == '_' || c == '-');
  if (ok && name.size() >= 12 && name.size() <= 64 && is_hex(name)) {
    return Error::invalid(
        fmt::format("a layer cannot be called '{}': it would be taken for a digest", name));
  }
  if (ok) return {};
  return Error::invalid(
      "a layer name is 1 to 255 of the characters A-Z a-z 0-9 . _ - and begins with a letter or "
      "digit");
}

std::optional<LayerId> Store::find_chain(Digest const& chain_id) const {
  ReadLock lock(impl_->catalog.mutex());
  auto hit = impl_->catalog.names.find_digest(chain_id, NameType::kLayer);
  if (!hit || !*hit) return std::nullopt;
  return (*hit)->id;
}

Result<std::optional<NameTable::Hit>> NameTable::find_any(std::string_view name,
                                                          std::optional<NameType> type) const {
  // Exact names first, then what a registry client would add.
  std::string const given(name);
  std::size_t const slash = given.rfind('/');
  bool const tagged = given.find(':', slash == std::string::npos ? 0 : slash) != std::string::npos;
  for (char const* prefix : {"", "localhost/", "docker.io/library/", "docker.io/"}) {
    for (char const* suffix : {"", ":latest"}) {
      if (*suffix != '\0' && tagged) continue;
      LCFS_TRY_ASSIGN(auto const hit, find(prefix + given + suffix));
      if (hit && hit->type == type.value_or(hit->type)) return hit;
    }
  }
  return std::optional<Hit>{};
}

Status NameTable::check_free(std::string_view name) const {
  LCFS_TRY_ASSIGN(auto const hit, find_any(name));
  if (!hit) return {};
  if (hit->type == NameType::kLayer)
    return Error::exists(fmt::format("a layer named '{}' already exists", name)).in(device_.name());
  auto const image = image_in(tree_.read(), hit->id);
  if (!image) {
    Error e = image.error();
    if (e.path.empty()) e.path = device_.name();
    return e;
  }
  return Error::exists(
             fmt::format("the name '{}' means the image {}", name, fmt::join(image->names, ", ")))
      .in(device_.name());
}

namespace {

// The digests that begin with `hex`: from the first one possible to the last.
std::pair<Digest, Digest> digests_with(std::string_view hex) {
  Digest low{}, high{};
  high.fill(0xff);
  for (std::size_t i = 0; i < hex.size(); ++i) {
    auto const v = static_cast<std::uint8_t>(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10);
    unsigned const shift = i % 2 == 0 ? 4 : 0;
    low[i / 2] = static_cast<std::uint8_t>(low[i / 2] | v << shift);
    high[i / 2] = static_cast<std::uint8_t>((high[i / 2] & ~(0xf << shift)) | v << shift);
  }
  return {low, high};
}

struct Candidate {
  Target target{};
  std::string text{};
};

// The only one, or an error that shows them.
Result<Target> only(std::string_view name, std::vector<Candidate> const& found) {
  if (found.size() == 1) return found.front().target;
  std::string list;
  for (auto const& c : found) list += (list.empty() ? " " : ", ") + c.text;
  return Error::invalid(fmt::format("'{}' is ambiguous:{}", name, list));
}

constexpr std::size_t kMaxCandidates = 10;

}  // namespace

Result<Target> Store::resolve(std::string_view name) const {
  if (name.empty() || name.size() > kMaxImageName) {
    return Error::invalid("a name must have 1 to 1023 bytes");
  }
  std::string_view hex = name;
  if (hex.starts_with("sha256:")) hex.remove_prefix(7);
  bool const digits = hex.size() >= 4 && hex.size() <= 64 && is_hex(hex);
  auto const shown = [&hex](Digest const& digest) {
    return digest_text(digest).substr(0, 7 + std::max<std::size_t>(12, hex.size() + 4));
  };
  auto const [low, high] = digits ? digests_with(hex) : std::pair<Digest, Digest>{};
  {
    ReadLock lock(impl_->catalog.mutex());
    LCFS_TRY_ASSIGN(auto const hit, impl_->catalog.names.find_any(name));
    if (hit) return hit->type == NameType::kLayer ? Target{hit->id, 0} : Target{0, hit->id};
    if (LayerId id = 0; name.starts_with('@') &&
                        std::from_chars(name.data() + 1, name.data() + name.size(), id).ptr ==
                            name.data() + name.size()) {
      if (auto const record = impl_->catalog.layers.live(id); record) return Target{id, 0};
    }
    if (digits) {
      std::vector<Candidate> found;
      LCFS_TRY(scan(impl_->catalog.tree.read(), {0, kDigest, digest_key(low)},
                    {0, kDigest, digest_key(high) + kProbes - 1},
                    [&, &low = low, &high = high](Key const& key, Bytes value) -> Result<bool> {
                      LCFS_TRY_ASSIGN(auto const info, parse_digest(key, value));
                      if (info.digest < low || info.digest > high) return true;
                      bool const layer = info.type == NameType::kLayer;
                      found.push_back(
                          {layer ? Target{info.id, 0} : Target{0, info.id},
                           fmt::format("{} {}", layer ? "layer" : "image", shown(info.digest))});
                      return found.size() < kMaxCandidates;
                    }));
      if (!found.empty()) return only(name, found);
    }
  }
  // diff_ids have no table: this looks at every layer, but only when nothing else fits.
  if (digits) {
    std::vector<Candidate> found;
    LCFS_TRY(for_each_layer([&, &low = low, &high = high](LayerInfo const& layer) {
      if (layer.has_digests && layer.diff_id >= low && layer.diff_id <= high)
        found.push_back({{layer.id, 0}, fmt::format("layer {}", layer.name)});
      return found.size() < kMaxCandidates;
    }));
    if (!found.empty()) return only(name, found);
  }
  ReadLock lock(impl_->catalog.mutex());
  LCFS_TRY_ASSIGN(auto const similar, impl_->catalog.names.similar(name));
  return Error::not_found(
      fmt::format("no layer or image is called '{}'{}", name,
                  similar.empty() ? "; see lcfs layer ls, lcfs image ls"
                                  : fmt::format("; did you mean {}?", fmt::join(similar, ", "))));
}

Result<LayerId> Store::resolve_layer(std::string_view name) const {
  LCFS_TRY_ASSIGN(Target const t, resolve(name));
  if (t.layer != 0) return t.layer;
  LCFS_TRY_ASSIGN(auto const details, image(t.image));
  if (details.info.top_layer == 0) {
    return Error::not_found(fmt::format("image '{}' has no layers", name));
  }
  return details.info.top_layer;
}

Result<ImageId> Store::resolve_image(std::string_view name) const {
  LCFS_TRY_ASSIGN(Target const t, resolve(name));
  if (t.image != 0) return t.image;
  {
    ReadLock lock(impl_->catalog.mutex());
    LCFS_TRY_ASSIGN(auto const hit,
                    impl_->catalog.names.find_any(
                        name, NameType::kImage));  // a layer may be called as an image is for short
    if (hit) return hit->id;
  }
  return Error::not_found(fmt::format("'{}' is a layer, not an image", name));
}

}  // namespace lcfs
