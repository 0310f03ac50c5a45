// SPDX-License-Identifier: Apache-2.0
// Finding layers and images: the name and digest tables of the store tree, and what users may type.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "engine/probe.h"
#include "engine/store_impl.h"

namespace lcfs {

namespace {

bool is_hex(std::string_view s) {
  return std::all_of(s.begin(), s.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_alnum(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

}  // namespace

Result<std::optional<StoreImpl::NameHit>> StoreImpl::find_name(std::string_view name) const {
  NameHit hit;
  auto match = [&](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const info, parse_name(key, value));
    if (info.name != name) return false;
    hit = {key, info.id, info.type};
    return true;
  };
  LCFS_TRY_ASSIGN(auto const p, probe(tree, {0, kName, name_key(hash_seed, name)}, 1, match));
  if (!p.found) return std::optional<NameHit>{};
  return std::optional<NameHit>(hit);
}

Status StoreImpl::put_name(std::string_view name, std::uint64_t id, NameType type) {
  auto match = [&](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const info, parse_name(key, value));
    return info.name == name;
  };
  LCFS_TRY_ASSIGN(auto const p, probe(tree, {0, kName, name_key(hash_seed, name)}, 1, match));
  if (p.found) {
    return Error{Errc::kExists, fmt::format("the name '{}' is taken", name), EEXIST, device.name(), kNoOffset};
  }
  if (!p.free) return Error{Errc::kNoSpace, "too many names with the same hash", ENOSPC, device.name(), kNoOffset};
  return tree.put(*p.free, as_bytes(encode_name({id, type, name})));
}

Status StoreImpl::erase_name(std::string_view name) {
  LCFS_TRY_ASSIGN(auto const hit, find_name(name));
  if (!hit) return Error{Errc::kCorrupt, fmt::format("the name '{}' is missing from the name table", name), 0, device.name(), kNoOffset};
  return tree.erase_range(hit->key, hit->key, nullptr);
}

Result<std::optional<StoreImpl::NameHit>> StoreImpl::find_digest(Digest const& digest, NameType type) const {
  NameHit hit;
  auto match = [&](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const info, parse_digest(key, value));
    if (info.digest != digest || info.type != type) return false;
    hit = {key, info.id, info.type};
    return true;
  };
  LCFS_TRY_ASSIGN(auto const p, probe(tree, {0, kDigest, digest_key(digest)}, 1, match));
  if (!p.found) return std::optional<NameHit>{};
  return std::optional<NameHit>(hit);
}

Status StoreImpl::put_digest(Digest const& digest, std::uint64_t id, NameType type) {
  auto match = [](Key const&, Bytes) -> Result<bool> { return false; };
  LCFS_TRY_ASSIGN(auto const p, probe(tree, {0, kDigest, digest_key(digest)}, 1, match));
  if (!p.free) return Error{Errc::kNoSpace, "too many digests with the same prefix", ENOSPC, device.name(), kNoOffset};
  return tree.put(*p.free, as_bytes(encode_digest({digest, id, type})));
}

Status StoreImpl::erase_digest(Digest const& digest, NameType type) {
  LCFS_TRY_ASSIGN(auto const hit, find_digest(digest, type));
  if (!hit) return Error{Errc::kCorrupt, "a digest is missing from the digest table", 0, device.name(), kNoOffset};
  return tree.erase_range(hit->key, hit->key, nullptr);
}

Status Store::check_layer_name(std::string_view name) {
  bool ok = !name.empty() && name.size() <= kMaxLayerName && is_alnum(name.front());
  for (char c : name) ok = ok && (is_alnum(c) || c == '.' || c == '_' || c == '-');
  if (ok) return {};
  return Error{Errc::kInvalid,
               "a layer name has 1 to 255 of the characters A-Z a-z 0-9 . _ - and begins with a letter or digit", EINVAL};
}

std::optional<LayerId> Store::find_chain(Digest const& chain_id) const {
  ReadLock lock(impl_->mu);
  auto hit = impl_->find_digest(chain_id, NameType::kLayer);
  if (!hit || !*hit) return std::nullopt;
  return (*hit)->id;
}

Result<Target> Store::resolve(std::string_view name) const {
  ReadLock lock(impl_->mu);
  auto target = [](std::uint64_t id, NameType type) {
    return type == NameType::kLayer ? Target{id, 0} : Target{0, id};
  };
  if (name.empty() || name.size() > kMaxImageName) {
    return Error{Errc::kInvalid, "a name has 1 to 1023 bytes", EINVAL};
  }
  std::string const given(name);
  // Exact names first, then what a registry client would add.
  std::size_t const slash = given.rfind('/');
  bool const tagged = given.find(':', slash == std::string::npos ? 0 : slash) != std::string::npos;
  for (char const* prefix : {"", "localhost/", "docker.io/library/", "docker.io/"}) {
    for (char const* suffix : {"", ":latest"}) {
      if (*suffix != '\0' && tagged) continue;
      LCFS_TRY_ASSIGN(auto const hit, impl_->find_name(prefix + given + suffix));
      if (hit) return target(hit->id, hit->type);
    }
  }
  // Digests: whole, or a unique prefix.
  std::string_view hex = name;
  if (hex.starts_with("sha256:")) hex.remove_prefix(7);
  if (hex.size() >= 4 && hex.size() <= 64 && is_hex(hex)) {
    Digest low{}, high{};
    high.fill(0xff);
    for (std::size_t i = 0; i < hex.size(); ++i) {
      auto const v = static_cast<std::uint8_t>(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10);
      unsigned const shift = i % 2 == 0 ? 4 : 0;
      low[i / 2] = static_cast<std::uint8_t>(low[i / 2] | v << shift);
      high[i / 2] = static_cast<std::uint8_t>((high[i / 2] & ~(0xf << shift)) | v << shift);
    }
    std::vector<DigestInfo> found;
    LCFS_TRY(scan(impl_->tree, {0, kDigest, digest_key(low)}, {0, kDigest, digest_key(high) + kProbes - 1},
                  [&](Key const& key, Bytes value) -> Result<bool> {
                    LCFS_TRY_ASSIGN(auto const info, parse_digest(key, value));
                    if (info.digest >= low && info.digest <= high) found.push_back(info);
                    return found.size() < 10;
                  }));
    if (found.size() == 1) return target(found[0].id, found[0].type);
    if (found.size() > 1) {
      std::string list;
      for (auto const& f : found) {
        list += fmt::format("{} {} {}", list.empty() ? "" : ",", f.type == NameType::kLayer ? "layer" : "image",
                            digest_text(f.digest).substr(0, 7 + std::max<std::size_t>(12, hex.size() + 4)));
      }
      return Error{Errc::kInvalid, fmt::format("'{}' is ambiguous:{}", name, list), EINVAL};
    }
  }
  return Error{Errc::kNotFound, fmt::format("no layer or image is called '{}'; see lcfs layer ls, lcfs image ls", name), ENOENT};
}

Result<LayerId> Store::resolve_layer(std::string_view name) const {
  LCFS_TRY_ASSIGN(Target const t, resolve(name));
  if (t.layer != 0) return t.layer;
  LCFS_TRY_ASSIGN(auto const details, image(t.image));
  if (details.info.top_layer == 0) {
    return Error{Errc::kNotFound, fmt::format("image '{}' has no layers", name), ENOENT};
  }
  return details.info.top_layer;
}

Result<ImageId> Store::resolve_image(std::string_view name) const {
  LCFS_TRY_ASSIGN(Target const t, resolve(name));
  if (t.image != 0) return t.image;
  return Error{Errc::kNotFound, fmt::format("'{}' is a layer, not an image", name), ENOENT};
}

}  // namespace lcfs
