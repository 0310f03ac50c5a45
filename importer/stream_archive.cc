// SPDX-License-Identifier: Apache-2.0
#include "importer/stream_archive.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>

#include "importer/decompress.h"
#include "importer/tar_reader.h"
#include "oci/json.h"
#include "oci/quote.h"

namespace lcfs::importer {
namespace {

constexpr std::size_t kMaxDocuments = std::size_t{32} << 20;  // bytes of all documents together
// Layers that have all their bytes and are still processed.
constexpr std::size_t kMaxFinishing = 2;
constexpr std::size_t kKeepLayer = std::size_t{64}
                                   << 10;  // raw bytes of layers so small are kept, ...
constexpr std::size_t kKeepLayers = std::size_t{4} << 20;  // ... up to so much in all

// The result for one member.
struct Item {
  std::string name{};
  std::optional<std::string> document{};
  std::optional<ReceivedLayer> layer{};
  std::optional<Error> error{};  // why the member is unusable
  std::string raw{};             // of a small layer
  bool taken = false;
};

enum class Content : std::uint8_t { kDocument, kLayer, kOther };

bool fatal(Errc code) {
  return code == Errc::kNoSpace || code == Errc::kIo || code == Errc::kInterrupted;
}

Content judge(std::span<std::byte const> head) {
  if (sniff(head) != Compression::kNone) return Content::kLayer;
  if (head.size() >= kTarBlock) {
    auto const block = head.first<kTarBlock>();
    bool const zero =
        std::all_of(block.begin(), block.end(), [](std::byte b) { return b == std::byte{0}; });
    if (zero || TarHeader::parse(block)) return Content::kLayer;
  }
  for (std::byte const b : head) {
    char const c = static_cast<char>(b);
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') continue;
    return c == '{' || c == '[' ? Content::kDocument : Content::kOther;
  }
  return Content::kOther;
}

}  // namespace

struct StreamArchive::Impl final : TarHandler {
  Impl(std::string archive, Common& shared, BeginLayer begin_layer, OnLayer layer_callback)
      : name(std::move(archive)),
        common(shared),
        begin(std::move(begin_layer)),
        on_layer(std::move(layer_callback)) {}

  Status read(ByteSource& source) {
    TarReader reader(*this);
    for (;;) {
      LCFS_TRY_ASSIGN(current, source.next());
      if (current.empty()) break;
      if (auto ok = reader.feed(current.bytes); !ok) {
        if (!ok.error().path.empty() || ok.error().code == Errc::kInterrupted) return ok;
        return oci::in_member(std::move(ok).error(), name, inside ? items.back().name : "");
      }
    }
    if (auto ok = reader.finish(); !ok)
      return oci::in_member(std::move(ok).error(), name, inside ? items.back().name : "");
    while (!finishing.empty()) LCFS_TRY(finish_oldest());
    return {};
  }

  // ---- TarHandler: the members of the archive

  Status entry(TarEntry&& entry) override {
    switch (entry.type) {
      case TarType::kFile: break;
      case TarType::kSymlink: return table.add_symlink(entry.path, entry.link);
      case TarType::kHardlink: return table.add_hardlink(entry.path, entry.link);
      default: return {};
    }
    LCFS_TRY(table.add(entry.path, {items.size(), entry.size, {}}));
    items.emplace_back();
    items.back().name = std::move(entry.path);
    size = entry.size;
    head.clear();
    judged = false;
    inside = true;
    return {};
  }

  Status data(std::span<std::byte const> bytes) override {
    if (!inside) return {};
    if (judged) return take({current.owner, bytes});
    auto const want = static_cast<std::size_t>(std::min<std::uint64_t>(size, kTarBlock));
    if (head.empty() && bytes.size() >= want) {
      LCFS_TRY(begin_item(bytes.first(want)));
      return take({current.owner, bytes});
    }
    auto const n = std::min(bytes.size(), want - head.size());
    head.append(reinterpret_cast<char const*>(bytes.data()), n);
    if (head.size() < want) return {};
    LCFS_TRY(begin_item(std::as_bytes(std::span(head.data(), head.size()))));
    auto chunk = common.pool.get();
    std::memcpy(chunk.get(), head.data(), head.size());
    LCFS_TRY(take({chunk, {chunk.get(), head.size()}}));
    return take({current.owner, bytes.subspan(n)});
  }

  Status hole(std::uint64_t /*length*/) override {
    return Error::unsupported(
        fmt::format("member {} is a sparse file", oci::printable(items.back().name)));
  }

  Status end_entry() override {
    if (!inside) return {};
    inside = false;
    if (size == 0) items.back().document.emplace();
    if (!receiver) return {};
    if (auto ok = receiver->end(); !ok) return layer_failed(std::move(ok).error());
    finishing.emplace_back(items.size() - 1, std::move(receiver));
    return finishing.size() > kMaxFinishing ? finish_oldest() : Status{};
  }

  // ---- one member

  Status begin_item(std::span<std::byte const> first) {
    judged = true;
    Item& item = items.back();
    switch (judge(first)) {
      case Content::kDocument:
        if (size > oci::kMaxDocument || size > kMaxDocuments - documents) {
          item.error = Error::unsupported(fmt::format("document of {} bytes is too large", size));
        } else {
          documents += static_cast<std::size_t>(size);
          item.document.emplace();
          item.document->reserve(static_cast<std::size_t>(size));
        }
        return {};
      case Content::kLayer: {
        if (!begin) return {};
        LCFS_TRY_ASSIGN(auto ingest, begin());
        receiver = std::make_unique<LayerReceiver>(common, std::move(ingest));
        keeping = size <= kKeepLayer && size <= kKeepLayers - kept;
        if (keeping) kept += static_cast<std::size_t>(size);
        if (on_layer) on_layer(item.name);
        return {};
      }
      case Content::kOther:
        item.error = Error::corrupt("is neither JSON nor a layer (tar, gzip or zstd)");
        return {};
    }
    return {};
  }

  Status take(Slice bytes) {
    if (bytes.empty()) return {};
    if (common.stopped()) return Error::interrupted();
    Item& item = items.back();
    if (item.document) {
      item.document->append(reinterpret_cast<char const*>(bytes.bytes.data()), bytes.bytes.size());
    } else if (receiver) {
      if (keeping)
        item.raw.append(reinterpret_cast<char const*>(bytes.bytes.data()), bytes.bytes.size());
      if (auto ok = receiver->push(std::move(bytes)); !ok)
        return layer_failed(std::move(ok).error());
    }
    return {};
  }

  Status layer_failed(Error error) {
    receiver.reset();
    if (fatal(error.code)) return oci::in_member(std::move(error), name, items.back().name);
    items.back().error = std::move(error);
    return {};
  }

  Status finish_oldest() {
    auto [index, oldest] = std::move(finishing.front());
    finishing.pop_front();
    auto received = oldest->wait();
    if (received) {
      items[index].layer = *std::move(received);
    } else if (fatal(received.error().code)) {
      return oci::in_member(std::move(received).error(), name, items[index].name);
    } else {
      items[index].error = std::move(received).error();
    }
    return {};
  }

  // ---- afterwards

  Result<Item*> find(std::string_view member) {
    auto const* found = table.find(member);
    if (found == nullptr)
      return oci::in_member(Error::not_found("is not in the archive"), name, member);
    return &items[found->offset];
  }

  Result<ReceivedLayer> take_layer(std::string_view member) {
    LCFS_TRY_ASSIGN(auto* const item, find(member));
    if (item->error) return oci::in_member(*item->error, name, member);
    if (item->layer) {
      item->taken = true;
      return *std::exchange(item->layer, std::nullopt);
    }
    if (!item->taken) return oci::in_member(Error::corrupt("is not a layer"), name, member);
    if (item->raw.empty()) {
      return oci::in_member(
          Error::unsupported("layer is used more than once, so the archive must be read again; "
                             "save it to a file first"),
          name, member);
    }
    LCFS_TRY_ASSIGN(auto ingest, begin());
    LayerReceiver again(common, std::move(ingest));
    auto chunk = common.pool.get();
    static_assert(kKeepLayer <= kChunkBytes);
    std::memcpy(chunk.get(), item->raw.data(), item->raw.size());
    LCFS_TRY(again.push({chunk, {chunk.get(), item->raw.size()}}));
    LCFS_TRY(again.end());
    return again.wait();
  }

  std::string name;
  Common& common;
  BeginLayer begin;
  OnLayer on_layer;

  MemberTable table{};  // Member::offset is an index into items
  std::deque<Item> items{};
  std::size_t documents = 0, kept = 0;

  // The current member.
  Slice current{};
  std::uint64_t size = 0;
  std::string head{};  // until its form is known
  bool inside = false, judged = false, keeping = false;
  std::unique_ptr<LayerReceiver> receiver{};
  std::deque<std::pair<std::size_t, std::unique_ptr<LayerReceiver>>> finishing{};
};

StreamArchive::StreamArchive(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
StreamArchive::~StreamArchive() = default;

Result<std::unique_ptr<StreamArchive>> StreamArchive::read(ByteSource& source, std::string name,
                                                           Common& common, BeginLayer begin,
                                                           OnLayer on_layer) {
  auto impl =
      std::make_unique<Impl>(std::move(name), common, std::move(begin), std::move(on_layer));
  LCFS_TRY(impl->read(source));
  return std::make_unique<StreamArchive>(std::move(impl));
}

std::string const& StreamArchive::name() const { return impl_->name; }

std::optional<std::uint64_t> StreamArchive::size(std::string_view member) const {
  auto const* found = impl_->table.find(member);
  if (found == nullptr) return std::nullopt;
  return found->size;
}

Result<std::string> StreamArchive::document(std::string_view member) {
  LCFS_TRY_ASSIGN(auto* const item, impl_->find(member));
  if (item->error) return oci::in_member(*item->error, impl_->name, member);
  if (!item->document)
    return oci::in_member(Error::corrupt("is a layer, not a document"), impl_->name, member);
  return *item->document;
}

Result<ReceivedLayer> StreamArchive::take_layer(std::string_view member) {
  return impl_->take_layer(member);
}

}  // namespace lcfs::importer
