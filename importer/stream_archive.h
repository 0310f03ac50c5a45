// SPDX-License-Identifier: Apache-2.0
// An archive that came once, from front to back: its JSON documents in memory, its layers already
// received but not stacked. Members are told apart by content, since names mean nothing before the
// manifest came, and it may come last.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "importer/archive.h"
#include "importer/layer_receiver.h"
#include "importer/source.h"

namespace lcfs::importer {

class StreamArchive final : public Archive {
 public:
  using BeginLayer = std::function<Result<std::unique_ptr<Ingest>>()>;
  using OnLayer = std::function<void(std::string const& member)>;

  // Reads `source` to its end.  `begin` null: layers are left out (to list what there is).
  // A layer that is damaged is no error before somebody wants it; a full store is, at once.
  static Result<std::unique_ptr<StreamArchive>> read(ByteSource& source, std::string name,
                                                     Common& common, BeginLayer begin,
                                                     OnLayer on_layer);
  ~StreamArchive() override;

  [[nodiscard]] std::string const& name() const override;
  [[nodiscard]] std::optional<std::uint64_t> size(std::string_view member) const override;
  Result<std::string> document(std::string_view member) override;

  // The layer in `member`.  It can be taken once; small ones, which are kept, again and again
  // (kUnsupported for others).
  Result<ReceivedLayer> take_layer(std::string_view member);

  struct Impl;
  explicit StreamArchive(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace lcfs::importer
