// SPDX-License-Identifier: Apache-2.0
#include "importer/apply.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/fd.h"
#include "engine/import.h"
#include "importer/archive.h"
#include "importer/layer_receiver.h"

namespace lcfs::importer {
namespace {

// Whole chunks, because the first one determines the compression.
Result<std::size_t> read_chunk(int fd, std::span<std::byte> into) {
  std::size_t done = 0;
  while (done < into.size()) {
    ssize_t const n = read(fd, into.data() + done, into.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::io("cannot read", errno);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

Status receive(int fd, Common& common, LayerReceiver& receiver) {
  bool any = false;
  for (;;) {
    if (common.stopped()) return Error::interrupted();
    auto chunk = common.pool.get();
    LCFS_TRY_ASSIGN(std::size_t const n, read_chunk(fd, {chunk.get(), kChunkBytes}));
    if (n == 0) break;
    any = true;
    LCFS_TRY(receiver.push({chunk, {chunk.get(), n}}));
  }
  if (!any) return Error::invalid("is empty, not a changeset");
  return receiver.end();
}

}  // namespace

Result<LayerId> apply_changeset(Store& store, LayerId parent, ApplyOptions const& options) {
  LCFS_TRY(Store::check_layer_name(options.name));
  bool const piped = options.source == "-";
  std::string const shown = piped ? "standard input" : options.source;
  Fd file;
  if (!piped) {
    file = Fd(open(options.source.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0) return Error::io("cannot open", errno).in(shown);
  }
  Common common;
  common.stop = options.stop;
  common.free_bytes = store.space().free * kBlockSize;
  ImportTransaction transaction(store, "layer apply");
  LCFS_TRY_ASSIGN(auto ingest, transaction.begin_layer());
  LayerReceiver receiver(common, std::move(ingest));
  auto const about = [&shown](Error error) {
    if (error.path.empty() && error.code != Errc::kNoSpace && error.code != Errc::kInterrupted)
      error.path = shown;
    return error;
  };
  if (auto done = receive(piped ? options.input : file.get(), common, receiver); !done)
    return about(std::move(done).error());
  auto received = receiver.wait();
  if (!received) return about(std::move(received).error());
  if (parent != 0) LCFS_TRY(store.freeze_layer(parent));
  LayerMeta meta;
  meta.name = options.name;
  auto stacked = transaction.stack(*received->ingest, parent, meta);
  if (!stacked) return std::move(stacked).error();
  LCFS_TRY(transaction.commit());
  return *stacked;
}

}  // namespace lcfs::importer
