// SPDX-License-Identifier: Apache-2.0
// An archive that was read once, from front to back: its JSON documents are in memory, its layers
// are received but not stacked.  Content distinguishes the members, because the manifest that
// explains their names may come last.
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

  // Reads `source` to its end.  `begin` null: skips layers (to list the images).  A damaged layer
  // is an error only when it is taken; a full store is an error at once.
  static Result<std::unique_ptr<StreamArchive>> read(ByteSource& source, std::string name,
                                                     Common& common, BeginLayer begin,
                                                     OnLayer on_layer);
  ~StreamArchive() override;

  [[nodiscard]] std::string const& name() const override;
  [[nodiscard]] std::optional<std::uint64_t> size(std::string_view member) const override;
  Result<std::string> document(std::string_view member) override;

  // The layer in `member`.  A small layer, which is kept, can be taken any number of times;
  // others once, then kUnsupported.
  Result<ReceivedLayer> take_layer(std::string_view member);

  struct Impl;
  explicit StreamArchive(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace lcfs::importer
